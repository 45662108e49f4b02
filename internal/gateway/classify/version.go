package classify

import (
	"regexp"
	"strings"
)

var version = regexp.MustCompile(`(?:^|[^0-9.])v?([0-9]+\.[0-9]+\.[0-9]+)(?:$|[^0-9.])`)

// Version is the version that `openshell --version` tells, as 1.2.3; empty when
// there is none.
func Version(text string) string {
	m := version.FindStringSubmatch(Plain(text))
	if m == nil {
		return ""
	}
	return m[1]
}

// ImageVersion is the version that an image's tag is, as 1.2.3; empty for an image
// that is named by another tag or by its digest alone.
func ImageVersion(image string) string {
	name, _, _ := strings.Cut(image, "@")
	tag := name[strings.LastIndexAny(name, ":/")+1:]
	if tag == name || !strings.HasSuffix(name, ":"+tag) {
		return ""
	}
	if tag = strings.TrimPrefix(tag, "v"); version.FindString(tag) != tag {
		return ""
	}
	return tag
}
