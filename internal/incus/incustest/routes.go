package incustest

import (
	"net/http"
)

// routes lists all that is modelled.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for pattern, h := range map[string]func(*http.Request) reply{
		"GET /1.0":                        s.getServer,
		"GET /1.0/metadata/configuration": s.getMetadata,

		"GET /1.0/certificates":                  s.getCertificates,
		"POST /1.0/certificates":                 s.postCertificate,
		"DELETE /1.0/certificates/{fingerprint}": s.deleteCertificate,

		"GET /1.0/operations/{id}":      s.getOperation,
		"GET /1.0/operations/{id}/wait": s.waitOperation,

		"GET /1.0/projects":           s.getProjects,
		"POST /1.0/projects":          s.postProject,
		"GET /1.0/projects/{name}":    s.getProject,
		"PUT /1.0/projects/{name}":    s.putProject,
		"DELETE /1.0/projects/{name}": s.deleteProject,
		"GET /1.0/profiles/{name}":    s.getProfile,

		"GET /1.0/networks":           s.getNetworks,
		"POST /1.0/networks":          s.postNetwork,
		"GET /1.0/networks/{name}":    s.getNetwork,
		"PUT /1.0/networks/{name}":    s.putNetwork,
		"DELETE /1.0/networks/{name}": s.deleteNetwork,

		"GET /1.0/storage-pools":                                 s.getPools,
		"GET /1.0/storage-pools/{pool}/volumes/custom":           s.getVolumes,
		"POST /1.0/storage-pools/{pool}/volumes/custom":          s.postVolume,
		"GET /1.0/storage-pools/{pool}/volumes/custom/{name}":    s.getVolume,
		"PUT /1.0/storage-pools/{pool}/volumes/custom/{name}":    s.putVolume,
		"DELETE /1.0/storage-pools/{pool}/volumes/custom/{name}": s.deleteVolume,

		"POST /1.0/storage-pools/{pool}/volumes/custom/{name}/snapshots":              s.postSnapshot,
		"GET /1.0/storage-pools/{pool}/volumes/custom/{name}/snapshots/{snapshot}":    s.getSnapshot,
		"DELETE /1.0/storage-pools/{pool}/volumes/custom/{name}/snapshots/{snapshot}": s.deleteSnapshot,

		"GET /1.0/images":                  s.getImages,
		"POST /1.0/images":                 s.postImage,
		"GET /1.0/images/{fingerprint}":    s.getImage,
		"DELETE /1.0/images/{fingerprint}": s.deleteImage,

		"GET /1.0/instances":                     s.getInstances,
		"POST /1.0/instances":                    s.postInstance,
		"GET /1.0/instances/{name}":              s.getInstance,
		"PUT /1.0/instances/{name}":              s.putInstance,
		"PATCH /1.0/instances/{name}":            s.patchInstance,
		"POST /1.0/instances/{name}":             s.renameInstance,
		"DELETE /1.0/instances/{name}":           s.deleteInstance,
		"GET /1.0/instances/{name}/state":        s.getState,
		"PUT /1.0/instances/{name}/state":        s.putState,
		"POST /1.0/instances/{name}/rebuild":     s.rebuildInstance,
		"GET /1.0/instances/{name}/snapshots":    func(*http.Request) reply { return ok([]string{}) }, // it models none
		"POST /1.0/instances/{name}/exec":        s.postExec,
		"GET /1.0/instances/{name}/files":        s.getFile, // HEAD too
		"POST /1.0/instances/{name}/files":       s.postFile,
		"DELETE /1.0/instances/{name}/files":     s.deleteFile,
		"GET /1.0/instances/{name}/logs/lxc.log": s.getLog,
		"GET /1.0/instances/{name}/console":      s.getConsole,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { h(r)(w) })
	}
	mux.HandleFunc("GET /1.0/events", s.getEvents)
	mux.HandleFunc("POST /1.0/instances/{name}/port-forward", s.postForward)
	mux.HandleFunc("GET /1.0/instances/{name}/sftp", s.getInstanceSFTP)
	mux.HandleFunc("GET /1.0/storage-pools/{pool}/volumes/custom/{name}/sftp", s.getVolumeSFTP)
	mux.HandleFunc("GET /1.0/operations/{id}/websocket", s.getExec)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.violation(r)(w) })
	return mux
}

// violation records a request that is not modelled.
func (s *Server) violation(r *http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bad = append(s.bad, r.Method+" "+r.URL.RequestURI())
	return fail(http.StatusNotImplemented, "incustest does not model %s %s", r.Method, r.URL.RequestURI())
}
