// Command sbom prints the bill of materials of a package as CycloneDX JSON: what the Go linker has written into the very
// binary that is in the package. Nothing of the machine that makes it gets in, so that the same package gives the same
// bytes. (cyclonedx-gomod names its own executable's digest and, for what is built for others, a wrong architecture.)
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("sbom", flag.ContinueOnError)
	version := flags.String("version", "", "version of the package")
	seconds := flags.Int64("time", 0, "when the package was made, in seconds since 1970")
	file := flags.String("package", "", "the .deb or .rpm")
	binary := flags.String("binary", "", "the program in it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *version == "" || *file == "" || *binary == "" {
		return errors.New("-version, -package and -binary are needed")
	}
	bom, err := describe(*version, *file, *binary)
	if err != nil {
		return err
	}
	bom.Metadata.Timestamp = time.Unix(*seconds, 0).UTC().Format(time.RFC3339)
	return cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cdx.SpecVersion1_6)
}

// What rpm and dpkg call the architectures of Go.
var architectures = map[string]map[string]string{
	".deb": {"amd64": "amd64", "arm64": "arm64", "arm": "armhf"},
	".rpm": {"amd64": "x86_64", "arm64": "aarch64", "arm": "armv7hl"},
}

func describe(version, file, binary string) (*cdx.BOM, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, fmt.Errorf("read what is linked into %s: %w", filepath.Base(binary), err)
	}
	setting := make(map[string]string)
	for _, s := range info.Settings {
		setting[s.Key] = s.Value
	}
	format := filepath.Ext(file)
	arch, ok := architectures[format][setting["GOARCH"]]
	if !ok {
		return nil, fmt.Errorf("a %s for %q is not known", format, setting["GOARCH"])
	}
	if format == ".rpm" {
		version += "-1"
	}
	ofPackage, err := digest(file)
	if err != nil {
		return nil, err
	}
	ofBinary, err := digest(binary)
	if err != nil {
		return nil, err
	}

	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{
		Tools: &cdx.ToolsChoice{Components: &[]cdx.Component{{
			Type: cdx.ComponentTypeApplication, Name: "packaging/sbom", Group: "github.com/kured-host/kured",
		}}},
		Component: &cdx.Component{
			BOMRef: "package", Type: cdx.ComponentTypeApplication, Name: "kured", Version: version, Hashes: ofPackage,
			Supplier: &cdx.OrganizationalEntity{Name: "kured-host"},
			Licenses: &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}},
			PackageURL: fmt.Sprintf("pkg:%s/kured-host/kured@%s?arch=%s",
				strings.TrimPrefix(format, "."), strings.ReplaceAll(url.PathEscape(version), "+", "%2B"), arch),
		},
	}
	program := cdx.Component{
		BOMRef: "program", Type: cdx.ComponentTypeFile, Name: "/usr/bin/kured", Hashes: ofBinary,
		Properties: properties(setting, "GOARCH", "GOARM", "GOAMD64", "GOARM64", "GOOS", "CGO_ENABLED", "-trimpath", "vcs.revision", "vcs.modified"),
	}
	std := cdx.Component{
		BOMRef: "pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go"), Type: cdx.ComponentTypeLibrary,
		Name: "std", Version: info.GoVersion, Scope: cdx.ScopeRequired,
	}
	std.PackageURL = std.BOMRef
	components, refs := []cdx.Component{program, std}, []string{std.BOMRef}
	for _, module := range info.Deps {
		c, err := library(module)
		if err != nil {
			return nil, err
		}
		components, refs = append(components, c), append(refs, c.BOMRef)
	}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{
		{Ref: "package", Dependencies: &[]string{program.BOMRef}},
		{Ref: program.BOMRef, Dependencies: &refs},
	}
	return bom, nil
}

// library is one module. One that is replaced by a directory of kured's own sources has kured's version, so none.
func library(module *debug.Module) (cdx.Component, error) {
	c := cdx.Component{Type: cdx.ComponentTypeLibrary, Name: module.Path, Version: module.Version, Scope: cdx.ScopeRequired}
	sum := module.Sum
	if r := module.Replace; r != nil {
		sum = r.Sum
		if strings.HasPrefix(r.Path, ".") {
			c.BOMRef = "kured:" + module.Path
			c.Version = ""
			c.Description = "replaced by a directory of kured's own sources: " + filepath.Clean(r.Path)
			return c, nil
		}
		c.Name, c.Version = r.Path, r.Version
	}
	c.PackageURL = "pkg:golang/" + c.Name + "@" + strings.ReplaceAll(url.PathEscape(c.Version), "+", "%2B")
	c.BOMRef = c.PackageURL
	// go.sum's: of a list of the files and of their digests.
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(sum, "h1:"))
	if err != nil || len(raw) != sha256.Size {
		return c, fmt.Errorf("%s: no checksum of the form h1:… is in the binary", module.Path)
	}
	c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(raw)}}
	return c, nil
}

func properties(setting map[string]string, names ...string) *[]cdx.Property {
	var list []cdx.Property
	for _, name := range names {
		if value, ok := setting[name]; ok {
			list = append(list, cdx.Property{Name: "kured:build:" + strings.TrimPrefix(name, "-"), Value: value})
		}
	}
	return &list
}

func digest(file string) (*[]cdx.Hash, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Base(file), err)
	}
	return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(h.Sum(nil))}}, nil
}
