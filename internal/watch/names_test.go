package watch

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// tree builds a listing of paths: "blog.yaml", "blog/compose.yaml", "blog -> /dev/null", "blog -> outside".
func tree(paths ...string) listing {
	l := listing{inside: map[string][]string{}, broken: map[string]string{}}
	kinds := map[string]kind{}
	for _, p := range paths {
		name, target, isLink := strings.Cut(p, " -> ")
		parts := strings.Split(name, "/")
		switch {
		case isLink && target == "/dev/null":
			kinds[name] = null
		case isLink:
			kinds[name] = outside
		case len(parts) == 1:
			kinds[name] = plain
		default:
			kinds[parts[0]] = directory
			dir := strings.Join(parts[:len(parts)-1], "/")
			l.inside[dir] = append(l.inside[dir], parts[len(parts)-1])
		}
	}
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(kinds))) {
		l.nodes = append(l.nodes, node{name: name, kind: kinds[name]})
	}
	return l
}

// show writes a catalog as sorted lines.
func (c catalog) lines() []string {
	var out []string
	for name, e := range c.entries {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s in %s: %s env %s", name, e.dir, strings.Join(e.files, " "), strings.Join(e.env, " "))))
	}
	for mark, set := range map[string]map[string]bool{"mask": c.masked, "skip": c.skip, "hold": c.hold} {
		for name := range set {
			out = append(out, mark+" "+name)
		}
	}
	for _, p := range c.problems {
		out = append(out, p.Condition+" "+show(p.Path))
	}
	slices.Sort(out)
	return out
}

func TestWhichNamesMakeAStack(t *testing.T) {
	for _, tc := range []struct {
		name  string
		files []string
		want  []string
	}{
		{"flat", []string{"blog.yaml", "shop.yml"}, []string{"blog in .: blog.yaml env", "shop in .: shop.yml env"}},
		{
			"directory",
			[]string{"blog/compose.yaml", "shop/docker-compose.yml"},
			[]string{"blog in blog: blog/compose.yaml env", "shop in shop: shop/docker-compose.yml env"},
		},
		{"flat with everything", []string{
			"blog.d/20-b.yaml", "blog.d/10-a.yml", "blog.d/README", "blog.d/.hidden.yaml", "blog.incus.yaml", "blog.override.yaml",
			"blog.yaml", "blog.env", ".env", "blog.hold", "other.env",
		}, []string{
			"blog in .: blog.yaml blog.override.yaml blog.incus.yaml blog.d/10-a.yml blog.d/20-b.yaml env .env blog.env", "hold blog",
		}},
		{"directory with everything", []string{
			"blog/compose.yml", "blog/compose.override.yaml", "blog/compose.incus.yaml", "blog/blog.d/1.yaml", "blog.d/2.yaml",
			"blog/.env", "blog/data.sql", ".env", "blog.skip",
		}, []string{
			"blog in blog: blog/compose.yml blog/compose.override.yaml blog/compose.incus.yaml blog/blog.d/1.yaml blog.d/2.yaml env blog/.env",
			"skip blog",
		}},
		{
			"docker's own names",
			[]string{"blog/docker-compose.yml", "blog/docker-compose.override.yml"},
			[]string{"blog in blog: blog/docker-compose.yml blog/docker-compose.override.yml env"},
		},
		{"leftovers", []string{
			".blog.yaml", "#blog.yaml", "#blog.yaml#", ".#blog.yaml -> outside", "blog.yaml~", ".blog.yaml.swp", "blog.yaml.swp", "blog.yaml.tmp",
			"blog.yaml.bak", "blog.yaml.dpkg-old", "blog.yaml.rpmnew", "blog.yaml.ucf-dist", "sedX1a2b3", "README.md", "..data/blog.yaml",
			".git/compose.yaml", "4913", "blog.bak/compose.yaml", "blog.dpkg-new/compose.yaml",
		}, nil},
		{"data directories", []string{"html/index.html", "lost+found/x", "conf.d/a.conf"}, nil},
		{
			"two forms",
			[]string{"blog.yaml", "blog.yml", "blog/compose.yaml"},
			[]string{"Conflict blog/compose.yaml", "Conflict blog.yml", "blog in .: blog.yaml env"},
		},
		{
			"two forms, the other ending",
			[]string{"blog.yml", "blog/compose.yaml"},
			[]string{"Conflict blog/compose.yaml", "blog in .: blog.yml env"},
		},
		{
			"two main files",
			[]string{"blog/compose.yaml", "blog/docker-compose.yml"},
			[]string{"Conflict blog/docker-compose.yml", "blog in blog: blog/compose.yaml env"},
		},
		{
			"two endings of an override",
			[]string{"blog.yaml", "blog.override.yml", "blog.override.yaml"},
			[]string{"Conflict blog.override.yml", "blog in .: blog.yaml blog.override.yaml env"},
		},
		{"data beside a flat file", []string{"blog.yaml", "blog/index.html"}, []string{"blog in .: blog.yaml env"}},
		{"mask", []string{"blog.yaml -> /dev/null", "shop -> /dev/null", "shop.yaml"}, []string{"mask blog", "mask shop"}},
		{"marker that is a link", []string{"blog.yaml", "blog.hold -> /dev/null"}, []string{"blog in .: blog.yaml env", "hold blog"}},
		{
			"directory linked from outside",
			[]string{"blog -> outside", "wiki.d -> outside", "README -> outside"},
			[]string{"Refused blog", "Refused wiki.d"},
		},
		{
			"bad names",
			[]string{"Blog.yaml", "my.stack.yaml", "-rf.yaml", "Shop/compose.yaml"},
			[]string{"InvalidName -rf.yaml", "InvalidName Blog.yaml", "InvalidName Shop", "InvalidName my.stack.yaml"},
		},
		{
			"orphans",
			[]string{"blog.override.yaml", "shop.d/1.yaml", "wiki/compose.yaml", "wiki.incus.yaml"},
			[]string{"Orphan blog.override.yaml", "Orphan shop.d", "Orphan wiki.incus.yaml", "wiki in wiki: wiki/compose.yaml env"},
		},
		{"masked with overrides", []string{"blog.yaml -> /dev/null", "blog.override.yaml"}, []string{"mask blog"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			slices.Sort(tc.want)
			diff := cmp.Diff(tc.want, classify(tree(tc.files...)).lines())
			if diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestW40StrangeNamesAreEscapedAndExplained(t *testing.T) {
	for file, want := range map[string]string{
		"Blog.yaml": `the name "Blog" cannot be a stack's: use a-z, 0-9, "_" and "-", beginning with a letter or a digit; rename it to blog.yaml`,
		"a\nb\x1b[2J.yaml": `the name "a\nb\x1b[2J" cannot be a stack's: use a-z, 0-9, "_" and "-", beginning with a letter or a digit; ` +
			`rename it to a-b-2j.yaml`,
		"\xff\xfe.yml": `the name "\xff\xfe" cannot be a stack's: use a-z, 0-9, "_" and "-", beginning with a letter or a digit`,
		"-rf.yaml":     `the name "-rf" cannot be a stack's: use a-z, 0-9, "_" and "-", beginning with a letter or a digit; rename it to rf.yaml`,
		"übung.yaml":   `the name "übung" cannot be a stack's: use a-z, 0-9, "_" and "-", beginning with a letter or a digit; rename it to bung.yaml`,
	} {
		c := classify(tree(file))
		if len(c.problems) != 1 || c.problems[0].Text != want || len(c.entries) != 0 {
			t.Errorf("%q: %+v", file, c)
			continue
		}
		if !utf8.ValidString(c.problems[0].String()) || strings.ContainsAny(c.problems[0].String(), "\n\x1b") {
			t.Errorf("%q is not escaped in %q", file, c.problems[0].String())
		}
	}
	for in, want := range map[string]string{"/a b/ü.yaml": "/a b/ü.yaml", "/a\u202eb": `"/a\u202eb"`, "/a\tb": `"/a\tb"`} {
		if got := show(in); got != want {
			t.Errorf("show(%q) = %s, want %s", in, got, want)
		}
	}
}

func FuzzClassify(f *testing.F) {
	f.Add("blog.yaml", "blog/compose.yaml", "blog.d/x.yaml")
	f.Add("\n.yaml", "-.skip", ".d/.yaml")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		got := classify(tree(a, b, c))
		for name, e := range got.entries {
			if !stackName.MatchString(name) || len(e.files) == 0 {
				t.Errorf("stack %q: %+v", name, e)
			}
		}
		for _, p := range got.problems {
			if strings.ContainsAny(p.String(), "\n\r\x1b\x00") {
				t.Errorf("unescaped: %q", p.String())
			}
		}
	})
}

func TestHintsThatMatter(t *testing.T) {
	dirs := []string{"/etc/incus-compose.d", "/usr/lib/incus-compose.d"}
	refs := map[string][]string{"blog": {"/srv/conf/app.conf", "/etc/incus-compose.d/blog/sub/x.txt"}}
	for path, want := range map[string]bool{
		"":                                        true,
		"/etc/incus-compose.d":                    true,
		"/etc":                                    true,
		"/usr/lib/incus-compose.d/x.yaml":         true,
		"/etc/incus-compose.d/blog":               true,
		"/etc/incus-compose.d/.env":               true,
		"/etc/incus-compose.d/..data":             true,
		"/etc/incus-compose.d/blog/..data":        true,
		"/etc/incus-compose.d/blog/compose.yaml":  true,
		"/etc/incus-compose.d/blog/blog.d":        true,
		"/etc/incus-compose.d/blog/.env":          true,
		"/etc/incus-compose.d/blog/sub":           true,
		"/srv/conf/app.conf":                      true,
		"/srv/conf":                               true,
		"/srv/conf/..data":                        true,
		"/etc/passwd":                             false,
		"/etc/incus-compose.d.old":                false,
		"/etc/incus-compose.d/.x.swp":             false,
		"/etc/incus-compose.d/x.yaml~":            false,
		"/etc/incus-compose.d/blog/data.db":       false,
		"/etc/incus-compose.d/blog/.compose.yaml": false,
		"/srv/conf/other.conf":                    false,
		"/srv/other/..data":                       false,
	} {
		if got := relevant(path, dirs, refs); got != want {
			t.Errorf("relevant(%q) = %v", path, got)
		}
	}
}
