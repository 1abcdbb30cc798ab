package gate

import (
	"fmt"
	"strings"
)

// longest bounds a text that comes from others, in characters.
const longest = 200

// join names up to three items and counts the rest.
func join(items []string) string {
	if len(items) > 3 {
		return fmt.Sprintf("%s and %d more", strings.Join(items[:3], ", "), len(items)-3)
	}
	return strings.Join(items, ", ")
}
