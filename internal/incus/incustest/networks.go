package incustest

import (
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"github.com/lxc/incus/v6/shared/api"
)

var bridgeName = regexp.MustCompile(`^[-_a-zA-Z0-9.]{2,15}$`)

func (s *Server) shownNetwork(n *api.Network) api.Network {
	out := *n
	out.Config = maps.Clone(n.Config)
	out.UsedBy = s.networkUsers(n.Name)
	return out
}

func coveredByNetwork(n *api.Network) []any {
	return []any{n.Name, n.Managed, n.Type, n.Description, n.Config}
}

func (s *Server) getNetworks(r *http.Request) reply {
	if r.URL.Query().Get("recursion") != "1" {
		return s.violation(r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []api.Network{}
	for _, name := range slices.Sorted(maps.Keys(s.networks)) {
		list = append(list, s.shownNetwork(s.networks[name]))
	}
	return ok(list)
}

func (s *Server) getNetwork(r *http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, found := s.networks[r.PathValue("name")]
	if !found {
		return failed(notFound("Network"))
	}
	return okETag(s.shownNetwork(n), coveredByNetwork(n))
}

func (s *Server) postNetwork(r *http.Request) reply {
	var req api.NetworksPost
	err := body(r, &req)
	if err != nil {
		return failed(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if project(r) != "default" && s.projects[project(r)] != nil && s.projects[project(r)].Config["features.networks"] == "true" {
		return fail(http.StatusNotImplemented, "incustest does not model networks inside projects")
	}
	n, found := s.networks[req.Name]
	switch {
	case req.Type != "" && req.Type != "bridge":
		return fail(http.StatusNotImplemented, "incustest models bridges only")
	case !bridgeName.MatchString(req.Name):
		return failed(badRequest("Invalid network name: Network interface is too long (maximum 15 characters)"))
	case found && n.Managed:
		return fail(http.StatusConflict, "Network %q already exists", req.Name)
	}
	config := api.ConfigMap{}
	maps.Copy(config, req.Config)
	s.fillNetwork(config)
	err = validNetwork(req.Name, config)
	if err != nil {
		return failed(err)
	}
	made := &api.Network{
		Name: req.Name, Type: "bridge", Managed: true, Status: api.NetworkStatusPending, Locations: []string{"none"}, Project: "default",
		NetworkPut: api.NetworkPut{Config: config, Description: req.Description},
	}
	s.networks[req.Name] = made
	if !s.bridge(r) {
		return failed(errLife)
	}
	made.Status = api.NetworkStatusCreated
	s.emit("default", api.EventLifecycleNetworkCreated, "/1.0/networks/"+req.Name, "", s.requestor(), nil)
	return ok(nil)
}

// bridge waits until the bridge of a network is there. It is false when the caller went away or Incus was killed: the
// network then stays pending for ever. The caller holds the lock, which is given up meanwhile.
func (s *Server) bridge(r *http.Request) bool {
	if s.opt.Delays.Network <= 0 {
		return true
	}
	life := s.life
	s.mu.Unlock()
	defer s.mu.Lock()
	t := time.NewTimer(s.opt.Delays.Network)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	case <-life:
		return false
	}
}

// SlowNetworks is Delays.Network from now on.
func (s *Server) SlowNetworks(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opt.Delays.Network = d
}

// fillNetwork does what Incus does with addresses that are "auto" or not given.
func (s *Server) fillNetwork(config map[string]string) {
	if config["ipv4.address"] == "" {
		config["ipv4.address"] = "auto"
	}
	if config["ipv6.address"] == "" {
		config["ipv6.address"] = "auto"
	}
	if config["ipv4.address"] == "auto" {
		config["ipv4.address"] = s.freeSubnet()
		if config["ipv4.nat"] == "" {
			config["ipv4.nat"] = "true"
		}
	}
	if config["ipv6.address"] == "auto" {
		config["ipv6.address"] = fmt.Sprintf("fd42:%x::1/64", len(s.networks))
		if config["ipv6.nat"] == "" {
			config["ipv6.nat"] = "true"
		}
	}
}

func (s *Server) freeSubnet() string {
	for b := range 250 {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(b + 1), 77, 1}), 24)
		if !slices.ContainsFunc(slices.Collect(maps.Values(s.networks)), func(n *api.Network) bool {
			p, err := netip.ParsePrefix(n.Config["ipv4.address"])
			return err == nil && p.Overlaps(subnet)
		}) {
			return subnet.String()
		}
	}
	return "none"
}

func validNetwork(name string, config map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(config)) {
		if !documented("network_bridge", k) {
			return says("Invalid option for network %q option %q", name, k)
		}
	}
	for _, k := range []string{"ipv4.address", "ipv6.address"} {
		v := config[k]
		if v == "" || v == "none" {
			continue
		}
		_, err := netip.ParsePrefix(v)
		if err != nil {
			return says("Invalid value for network %q option %q: invalid CIDR address: %s", name, k, v)
		}
	}
	return nil
}

func (s *Server) putNetwork(r *http.Request) reply {
	var req api.NetworkPut
	err := body(r, &req)
	if err != nil {
		return failed(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, found := s.networks[r.PathValue("name")]
	if !found {
		return fail(http.StatusNotFound, "Failed loading network: Network not found")
	}
	err = matches(r, coveredByNetwork(n))
	if err == nil {
		err = validNetwork(n.Name, req.Config)
	}
	if err != nil {
		return failed(err)
	}
	config := api.ConfigMap{}
	maps.Copy(config, req.Config)
	maps.DeleteFunc(config, func(_, v string) bool { return v == "" })
	n.NetworkPut = api.NetworkPut{Config: config, Description: req.Description}
	s.emit("default", api.EventLifecycleNetworkUpdated, "/1.0/networks/"+n.Name, "", s.requestor(), nil)
	return ok(nil)
}

func (s *Server) deleteNetwork(r *http.Request) reply {
	name := r.PathValue("name")
	s.mu.Lock()
	defer s.mu.Unlock()
	n, found := s.networks[name]
	if !found || !n.Managed {
		return fail(http.StatusNotFound, "Failed loading network: Network not found")
	}
	if len(s.networkUsers(name)) > 0 {
		return failed(badRequest("The network is currently in use"))
	}
	delete(s.networks, name)
	s.emit("default", api.EventLifecycleNetworkDeleted, "/1.0/networks/"+name, "", s.requestor(), nil)
	return ok(nil)
}
