package bundle

import (
	"bytes"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Replaces reports that there is a value which needs a backup.
func (c *ClusterChange) Replaces() bool { return c.Old != nil && len(c.Old.Data) > 0 }

// BackupInfix is in the name of a backup, between that of its secret and a number.
const BackupInfix = "-creel-backup-"

// Backup is a copy of Old, under the first name after the newest backup that Old
// knows of, or after taken more. It is immutable, and Opaque, because other types
// have rules that the copy would have to meet and controllers that would act on
// it.
func (c *ClusterChange) Backup(gateway string, now time.Time, taken int) ClusterSecret {
	last, ok := strings.CutPrefix(c.Old.Metadata.Annotations[AnnotationBackup], c.Old.Metadata.Name+BackupInfix)
	n, err := strconv.Atoi(last)
	if !ok || err != nil || n < 0 {
		n = 0
	}
	b := ClusterSecret{APIVersion: "v1", Kind: "Secret", Type: typeOpaque, Immutable: true, Data: c.Old.Data,
		Metadata: ClusterMetadata{Namespace: c.New.Metadata.Namespace, Name: c.Old.Metadata.Name + BackupInfix + strconv.Itoa(n+1+taken)}}
	mark(&b.Metadata, gateway, now)
	b.Metadata.annotate(AnnotationBackupOf, c.Old.Metadata.Name)
	b.Metadata.annotate(AnnotationBackupType, c.Old.Type)
	return b
}

// Taken answers that the name of a backup is taken: by one of the same content,
// which an interrupted write left and which will do, or else true.
func (b *ClusterSecret) Taken(by ClusterSecret) bool {
	return by.Metadata.Annotations[AnnotationBackupOf] != b.Metadata.Annotations[AnnotationBackupOf] || !maps.EqualFunc(by.Data, b.Data, bytes.Equal)
}

// KeptIn notes on what is written where the previous value is.
func (c *ClusterChange) KeptIn(backup string) { c.New.Metadata.annotate(AnnotationBackup, backup) }

var backupNumber = regexp.MustCompile(`^[0-9]{1,9}$`)

// MadeBeside reports that Creel made a secret for a gateway, beside the one that is
// called of: a backup of it, or what a rotation put aside for it. Neither a label
// nor a name alone is enough.
func (o *ClusterSecret) MadeBeside(gateway string) (of string, ok bool) {
	m := o.Metadata
	if m.Labels[LabelManagedBy] != ManagedBy || m.Labels[LabelInstance] != gateway {
		return "", false
	}
	if of, ok = strings.CutSuffix(m.Name, nextSuffix); ok {
		return of, true
	}
	of = m.Annotations[AnnotationBackupOf]
	number, ok := strings.CutPrefix(m.Name, of+BackupInfix)
	return of, ok && of != "" && backupNumber.MatchString(number)
}
