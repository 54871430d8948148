package incustest

import (
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"

	"github.com/pkg/sftp"
)

// getInstanceSFTP serves a copy of the files of an instance: what was pushed, below the directories that images have.
func (s *Server) getInstanceSFTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	i, err := s.find(project(r), r.PathValue("name"))
	files := map[string]PushedFile{}
	if err == nil {
		maps.Copy(files, i.files)
		for _, dir := range rootDirs {
			files[dir] = PushedFile{Dir: true}
		}
	}
	s.mu.Unlock()
	var tree sftp.Handlers
	if err == nil {
		tree, err = treeOf(files)
	}
	if err != nil {
		failed(err)(w)
		return
	}
	serveSFTP(w, tree)
}

// emptyTree is a file system in memory that has no owners and modes.
func emptyTree() sftp.Handlers {
	tree := sftp.InMemHandler()
	tree.FileCmd = unowned{tree.FileCmd}
	return tree
}

// unowned accepts owners and modes, and forgets them.
type unowned struct{ sftp.FileCmder }

// Filecmd is sftp.FileCmder's.
func (u unowned) Filecmd(r *sftp.Request) error {
	if r.Method == "Setstat" {
		return nil
	}
	return u.FileCmder.Filecmd(r)
}

// treeOf is an emptyTree with some files.
func treeOf(files map[string]PushedFile) (sftp.Handlers, error) {
	tree := emptyTree()
	for _, p := range slices.Sorted(maps.Keys(files)) {
		if path.Dir(p) == p {
			continue // the root is there
		}
		if files[p].Dir {
			err := tree.FileCmd.Filecmd(sftp.NewRequest("Mkdir", p))
			if err != nil {
				return tree, fmt.Errorf("make %s: %w", p, err)
			}
			continue
		}
		put := sftp.NewRequest("Put", p)
		put.Flags = 0x1a // SSH_FXF_WRITE, CREAT and TRUNC
		to, err := tree.FilePut.Filewrite(put)
		if err == nil {
			_, err = to.WriteAt(files[p].Content, 0)
		}
		if err != nil {
			return tree, fmt.Errorf("write %s: %w", p, err)
		}
	}
	return tree, nil
}

// getVolumeSFTP serves the files of a volume.
func (s *Server) getVolumeSFTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	v := s.volumes[key{s.home(project(r), "features.storage.volumes"), r.PathValue("pool") + "/" + r.PathValue("name")}]
	tree := s.files[v]
	s.mu.Unlock()
	if v == nil {
		failed(notFound("Storage volume"))(w)
		return
	}
	serveSFTP(w, tree)
}

func serveSFTP(w http.ResponseWriter, tree sftp.Handlers) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, err = fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: sftp\r\nConnection: Upgrade\r\n\r\n")
	if err == nil {
		_ = sftp.NewRequestServer(conn, tree).Serve() // the end of the connection is its only error
	}
}
