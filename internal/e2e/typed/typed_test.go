package typed

import (
	"slices"
	"strings"
	"testing"
)

func page(lines ...string) string { return strings.Join(lines, "\n") + "\n" }

func TestCommands(t *testing.T) {
	for name, c := range map[string]struct {
		page string
		want []Command
	}{
		"by their prompts": {
			page("# Page", "## Install", "text", "```console", "# apt install x   # or dnf", "Reading package lists", "$ kubectl apply -f y", "```"),
			[]Command{{5, Node, "apt install x", "or dnf"}, {7, Admin, "kubectl apply -f y", ""}},
		},
		"in their order, from all blocks of the section": {
			page("## Install", "```console", "# one", "```", "### In detail", "```console", "# two", "```", "## See it", "```console", "# three", "```"),
			[]Command{{3, Node, "one", ""}, {7, Node, "two", ""}},
		},
		"not in other blocks": {
			page("## Install", "$ no", "    # no", "```toml", "# no", "## Install", "```", "```", "# no", "```", "```console", "# yes", "```"),
			[]Command{{12, Node, "yes", ""}},
		},
		"quoted signs": {
			page("## Install", "```console", `# kured request --reason 'see #12' # why # not`, `# echo "# it's" a#b`, "```"),
			[]Command{{3, Node, `kured request --reason 'see #12'`, "why # not"}, {4, Node, `echo "# it's" a#b`, ""}},
		},
		"titles of which it is a part": {
			page("## Install by hand", "```console", "# no", "```", "## Install", "```console", "$ yes", "```"),
			[]Command{{7, Admin, "yes", ""}},
		},
		"a comment in an answer": {
			page("## Install", "```console", "$ yes", "#no", "$no", "```"), []Command{{3, Admin, "yes", ""}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Commands(c.page, "Install")
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, c.want)
			}
		})
	}
}

func TestNoCommands(t *testing.T) {
	for name, c := range map[string]struct{ page, want string }{
		"no section":       {page("## Use"), `there is no section "Install"`},
		"no command":       {page("## Install", "text", "## Use", "```console", "# x", "```"), `section "Install" has no command`},
		"no end":           {page("## Install", "```console", "# x"), "line 2: the block does not end"},
		"nothing to type":  {page("## Install", "```console", "#  ", "```"), "line 3: there is no command behind the prompt"},
		"only the comment": {page("## Install", "```console", "$ # as an administrator", "```"), "line 3: there is no command behind the prompt"},
	} {
		if got, err := Commands(c.page, "Install"); err == nil || err.Error() != c.want {
			t.Errorf("%s: %+v, %v, want %q", name, got, err, c.want)
		}
	}
}

// A page can be anything; what is found in it can be typed.
func FuzzCommands(f *testing.F) {
	f.Add(page("## Install", "```console", "# a 'b # c' # d", "$ e", "```"))
	f.Add("## Install\n```console\n#\n```")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := Commands(text, "Install")
		if err == nil && len(all) == 0 {
			t.Error("neither commands nor an error")
		}
		lines := strings.Split(text, "\n")
		for _, c := range all {
			if c.Text == "" || !strings.Contains(lines[c.Line-1], c.Text) || !strings.Contains(lines[c.Line-1], c.Says) {
				t.Errorf("%+v is not in %q", c, lines[c.Line-1])
			}
		}
	})
}
