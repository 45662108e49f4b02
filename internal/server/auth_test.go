package server

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	creelv1 "creel/api/creel/v1"
	inferencev1 "creel/api/openshell/inference/v1"
	openshellv1 "creel/api/openshell/v1"
)

func TestEveryMethodIsInTheTable(t *testing.T) {
	table := authTable()
	known := 0
	for _, file := range []protoreflect.FileDescriptor{openshellv1.File_openshell_v1_openshell_proto,
		inferencev1.File_openshell_inference_v1_inference_proto, creelv1.File_creel_v1_creel_proto} {
		services := file.Services()
		for i := range services.Len() {
			methods := services.Get(i).Methods()
			for j := range methods.Len() {
				name := "/" + string(services.Get(i).FullName()) + "/" + string(methods.Get(j).Name())
				if _, ok := table[name]; !ok {
					t.Errorf("%s is not in the table: nobody could call it", name)
				}
				known++
			}
		}
	}
	if known != len(table) {
		t.Errorf("the table has %d rows for %d methods", len(table), known)
	}
	if known < 67+4+5 {
		t.Errorf("only %d methods were found", known)
	}
}
