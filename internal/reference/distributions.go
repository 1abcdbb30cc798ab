package reference

import (
	"fmt"
	"strings"

	"github.com/kured-host/kured/internal/kube"
)

// Distributions is the table of docs/distributions.md.
func Distributions() []byte {
	var b strings.Builder
	b.WriteString("\n| | kubeconfig of the kubelet | unit | credential |\n|---|---|---|---|\n")
	for _, d := range kube.Distributions() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", d.Name, codes(d.Places, ", else "), codes(d.Units, ", "), d.Credential)
	}
	return []byte(b.String())
}

func codes(items []string, between string) string {
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = "`" + item + "`"
	}
	return strings.Join(quoted, between)
}
