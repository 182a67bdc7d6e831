package owner

import (
	"slices"
	"strings"
	"testing"
)

const statTail = " S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 50 18446744073709551615 1 1"

func TestParseStat(t *testing.T) {
	for _, bad := range []string{
		"", "42", "42 (", "42 (nginx", "x (nginx)" + statTail, ") 42 (", "42 (nginx) S 7",
		strings.Replace("42 (nginx)"+statTail, " 7 ", " x ", 1), strings.Replace("42 (nginx)"+statTail, "98765", "-1", 1),
		"99999999999 (nginx)" + statTail,
	} {
		if p, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was taken for %+v", bad, p)
		}
	}
	for _, comm := range []string{"nginx", "a) S 1 (b", "new\nline", "\xff\xfe", "", ")))", "((("} {
		p, err := parseStat([]byte("42 (" + comm + ")" + statTail))
		if err != nil || p.pid != 42 || p.comm != comm || p.parent != 7 || p.start != 98765 {
			t.Errorf("%q: %+v, %v", comm, p, err)
		}
	}
}

func TestEffectiveUID(t *testing.T) {
	for text, want := range map[string]int64{
		"": -1, "Uid:\n": -1, "Uid:\t0\n": -1, "Uid:\t0\tx\t0\t0\n": -1, "Name:\tUid:\n": -1, "Uid:\t0\t-1\n": -1,
		"Name:\tnginx\nUid:\t0\t33\t0\t0\nGid:\t1\t2\t3\t4\n": 33,
		"Uid:\t0\t4294967295\t0\t0":                           4294967295,
	} {
		uid, ok := effectiveUID([]byte(text))
		if ok != (want >= 0) || ok && int64(uid) != want {
			t.Errorf("%q: %d, %v; want %d", text, uid, ok, want)
		}
	}
}

func TestExecutable(t *testing.T) {
	exists := func(path string) bool { return path == "/bin/odd (deleted)" }
	for link, want := range map[string]struct {
		path    string
		deleted bool
	}{
		"":                          {},
		"/usr/sbin/nginx":           {path: "/usr/sbin/nginx"},
		"/usr/sbin/nginx (deleted)": {path: "/usr/sbin/nginx", deleted: true},
		"/bin/odd (deleted)":        {path: "/bin/odd (deleted)"},
	} {
		if path, deleted := executable(link, exists); path != want.path || deleted != want.deleted {
			t.Errorf("%q: %q, %v", link, path, deleted)
		}
	}
}

func TestSocketInode(t *testing.T) {
	for link, want := range map[string]uint64{
		"socket:[4242]": 4242, "socket:[18446744073709551615]": 1<<64 - 1,
		"": 0, "socket:[": 0, "socket:[]": 0, "socket:[x]": 0, "pipe:[4242]": 0, "/tmp/socket:[1]": 0, "socket:[1": 0,
	} {
		if inode, ok := socketInode([]byte(link)); inode != want || ok != (want != 0) {
			t.Errorf("%q: %d, %v", link, inode, ok)
		}
	}
}

func TestParsePIDs(t *testing.T) {
	if got := parsePIDs([]byte("30\n4\n\nx\n200")); !slices.Equal(got, []int32{4, 30, 200}) {
		t.Errorf("pids %v", got)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("42 (nginx)" + statTail))
	f.Fuzz(func(t *testing.T, text []byte) {
		if p, err := parseStat(text); err == nil && !strings.Contains(string(text), "("+p.comm+")") {
			t.Errorf("%q: comm %q", text, p.comm)
		}
	})
}

func TestMappedSocket(t *testing.T) {
	for line, want := range map[string]uint64{
		"7f1e6c000000-7f1e6c001000 r--s 00000000 00:09 4242                       socket:[4242]\n": 4242,
		"7f1e6c000000-7f1e6c001000 r--s 00000000 00:09 4242 socket:[4242]":                         4242,
		"7f1e6c000000-7f1e6c001000 r--s 00000000 00:09 7 /tmp/a socket:[4242]\n":                   0, // the name of a file
		"7f1e6c000000-7f1e6c001000 r--s 00000000 00:09 7 /socket:[4242]\n":                         0,
		"7f1e6c000000-7f1e6c001000 rw-p 00000000 00:00 0 [anon:socket:[4242]]\n":                   0,
		"7f1e6c000000-7f1e6c001000 rw-p 00000000 00:00 0\n":                                        0,
		"": 0,
	} {
		if got, ok := mappedSocket([]byte(line)); got != want || ok != (want != 0) {
			t.Errorf("%q: %d, %t", line, got, ok)
		}
	}
}
