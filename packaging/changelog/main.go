// Command changelog makes the changelog of the packages from CHANGELOG.md: Debian's own form, or the YAML from which
// nfpm makes that of an rpm. With -release it says whether CHANGELOG.md is ready for the release of a version.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "changelog:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("changelog", flag.ContinueOnError)
	version := flags.String("version", "", "version of the package, as packaging/version.sh prints it")
	seconds := flags.Int64("time", 0, "when a version that is not released yet was made, in seconds since 1970")
	format := flags.String("format", "deb", "deb or rpm")
	release := flags.Bool("release", false, "print nothing, but fail unless the version is released in the file")
	file := flags.String("file", "CHANGELOG.md", "the file to read")
	if err := flags.Parse(args); err != nil {
		return err
	}
	text, err := os.ReadFile(*file)
	if err != nil {
		return err
	}
	all, err := parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", *file, err)
	}
	if *release {
		if err := ready(all, *version); err != nil {
			return fmt.Errorf("%s: %w", *file, err)
		}
		return nil
	}
	list := upTo(all, *version, time.Unix(*seconds, 0).UTC())
	switch *format {
	case "deb":
		_, err = io.WriteString(out, debian(list))
	case "rpm":
		var text []byte
		if text, err = rpm(list); err == nil {
			_, err = out.Write(text)
		}
	default:
		return fmt.Errorf("format is %q, want deb or rpm", *format)
	}
	return err
}

// ready says what keeps a version from being released.
func ready(all []release, version string) error {
	if version == "" || strings.Contains(version, "dev.") || strings.ContainsAny(version, "+ ") {
		return fmt.Errorf("%q is no version of a release: set a tag such as v1.2.3", version)
	}
	for i, r := range all {
		switch {
		case r.version == "" && len(r.changes) > 0:
			return fmt.Errorf("there are changes under Unreleased: they need the heading \"## %s - YYYY-MM-DD\"", version)
		case r.version == version && len(r.changes) == 0:
			return fmt.Errorf("no change is told of %s", version)
		case r.version == version:
			return nil
		case r.version != "":
			return fmt.Errorf("line %d has %s where %s is to be the newest", all[i].line, r.version, version)
		}
	}
	return fmt.Errorf("it has no heading \"## %s - YYYY-MM-DD\"", version)
}
