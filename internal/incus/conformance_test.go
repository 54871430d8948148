package incus_test

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lxc/incus/v6/shared/api"

	"github.com/incus-compose/ic-agent/internal/incus/incustest"
	"github.com/incus-compose/ic-agent/internal/incus/incustest/conformance"
	"github.com/incus-compose/ic-agent/internal/plan"
)

func TestConformanceOfTheFake(t *testing.T) {
	image := plan.Image{Ref: "docker.io/library/busybox", Server: "https://docker.io", Alias: "library/busybox", Fingerprint: "7ee593f21d97799bd204d6e350dca07d00710500baca2acb92f28b0fe31f9beb"}
	conformance.Run(t, synctest.Test, func(t *testing.T) conformance.Host {
		srv := newServer(t, incustest.Options{Delays: incustest.Delays{Network: 100 * time.Millisecond}})
		srv.AddImage(image.Server, image.Alias, incustest.Image{Fingerprint: image.Fingerprint})
		return conformance.Host{
			Dial:   srv.Dial,
			Image:  image,
			Behave: func(project, name string) { srv.SetApp(project, name, incustest.App{IgnoresStop: true}) },
			Lack:   func(project, name, program string) { srv.SetApp(project, name, incustest.App{Missing: program}) },
			Echo: func(project, name string, port int) {
				srv.SetApp(project, name, incustest.App{Listens: map[int]func(net.Conn){port: func(c net.Conn) { _, _ = io.Copy(c, c) }}})
			},
			Says: func(project, name, text string) { srv.SetApp(project, name, incustest.App{Console: text}) },
			Shell: func(project, name string) {
				srv.SetProgram(project, name, func(_ context.Context, req api.InstanceExecPost) (int, string, error) {
					if req.Command[0] == "kill" {
						time.AfterFunc(100*time.Millisecond, func() { _ = srv.Exit(project, name, 0) })
						return 0, "", nil
					}
					return 3, "broken\n", nil
				})
			},
			Exit: func(project, name string) {
				err := srv.Exit(project, name, 0)
				if err != nil {
					t.Error(err)
				}
			},
		}
	})
}

// newServer runs a fake that must not be asked for what it does not model.
func newServer(t *testing.T, opt incustest.Options) *incustest.Server {
	srv := incustest.New(opt)
	t.Cleanup(func() {
		srv.Close()
		for _, v := range srv.Violations() {
			t.Errorf("not modelled: %s", v)
		}
	})
	return srv
}
