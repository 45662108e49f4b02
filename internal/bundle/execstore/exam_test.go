package execstore_test

import "testing"

func TestExam(t *testing.T) { docker.exam(t).Run(t) }
