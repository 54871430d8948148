package incustest

import (
	"fmt"
	"net/http"

	"github.com/pkg/sftp"
)

// getInstanceSFTP serves the files of an instance, of which there are none.
func (s *Server) getInstanceSFTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	_, err := s.find(project(r), r.PathValue("name"))
	s.mu.Unlock()
	if err != nil {
		failed(err)(w)
		return
	}
	serveSFTP(w)
}

// getVolumeSFTP serves the files of a volume, and forgets them at the end of the connection.
func (s *Server) getVolumeSFTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	found := s.volumes[key{s.home(project(r), "features.storage.volumes"), r.PathValue("pool") + "/" + r.PathValue("name")}] != nil
	s.mu.Unlock()
	if !found {
		failed(notFound("Storage volume"))(w)
		return
	}
	serveSFTP(w)
}

func serveSFTP(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	_, err = fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: sftp\r\nConnection: Upgrade\r\n\r\n")
	if err == nil {
		_ = sftp.NewRequestServer(conn, sftp.InMemHandler()).Serve() // the end of the connection is its only error
	}
}
