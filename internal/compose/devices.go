package compose

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/incus-compose/ic-agent/internal/plan"
)

var (
	// blockDevice are the names under which disks appear in /dev.
	blockDevice = regexp.MustCompile(`^/dev/(sd[a-z]|hd[a-z]|vd[a-z]|xvd[a-z]|nvme\d+n\d|mmcblk\d|md\d|md/|dm-\d|mapper/.|loop\d|nbd\d|ram\d|sr\d|zd\d|disk/|zvol/|drbd\d)`)
	usbNode     = regexp.MustCompile(`^/dev/bus/usb/(\d{3})/(\d{3})$`)
)

// devices translates "host:container:rwm". Incus has a kind of device for each kind of node; which one a path is
// follows from its name, because the files are read where no device can be seen.
func (s *service) devices() {
	for _, d := range s.in.Devices {
		at := s.t.index.item(s.key+".devices", func(v any) bool {
			return strings.SplitN(asString(v), ":", 2)[0] == d.Source || asString(asMap(v)["source"]) == d.Source
		})
		s.device(at, d)
	}

	slices.SortStableFunc(s.out.HostDevices, func(a, b plan.HostDevice) int { return strings.Compare(a.Target, b.Target) })
}

func (s *service) device(at plan.Place, d types.DeviceMapping) {
	key := s.key + ".devices"
	h := plan.HostDevice{Source: path.Clean(d.Source), Target: path.Clean(d.Target), At: at}
	if d.Target == "" {
		h.Target = h.Source
	}

	mode := map[string]string{"": "0660", "rw": "0660", "rwm": "0660", "r": "0440", "rm": "0440", "w": "0220", "wm": "0220"}[d.Permissions]
	usb := usbNode.FindStringSubmatch(h.Source)
	switch {
	case strings.Contains(d.Source, "=") && !strings.HasPrefix(d.Source, "/"):
		s.t.refuseAt(at, key, "names of the container device interface are not known here", "write gpus: for a GPU, or the path of the device")
		return
	case !strings.HasPrefix(h.Source, "/dev/") || !strings.HasPrefix(h.Target, "/"):
		s.t.refuseAt(at, key, fmt.Sprintf("%q is not a device of the host", d.Source), `write a path below "/dev/"`)
		return
	case mode == "":
		s.t.refuseAt(at, key, fmt.Sprintf("%q are no permissions", d.Permissions), `write "rwm", "rw" or "r"`)
		return
	case h.Source == "/dev/dri":
		h = plan.HostDevice{Type: "gpu", Config: map[string]string{"mode": mode}, At: at}
	case h.Source == "/dev/bus/usb":
		h = plan.HostDevice{Type: "usb", Config: map[string]string{"mode": mode}, At: at}
	case usb != nil:
		h = plan.HostDevice{Type: "usb", Config: map[string]string{
			"busnum": strings.TrimLeft(usb[1], "0"), "devnum": strings.TrimLeft(usb[2], "0"), "mode": mode,
		}, At: at}
	case slices.Contains([]string{"/dev/snd", "/dev/input", "/dev/shm", "/dev/disk", "/dev/mapper"}, h.Source):
		s.t.refuseAt(at, key, h.Source+" is a directory", "name the devices in it, one by one")
		return
	case blockDevice.MatchString(h.Source):
		h.Type, h.Config = "unix-block", map[string]string{"mode": mode}
	default:
		h.Type, h.Config = "unix-char", map[string]string{"mode": mode}
	}

	s.out.HostDevices = append(s.out.HostDevices, h)
}

// gpus translates the short form.
func (s *service) gpus() {
	s.requests("gpus", s.in.Gpus)
	s.reservations()
}

// reservations translates what deploy.resources.reservations can mean on one host.
func (s *service) reservations() {
	if s.in.Deploy == nil || s.in.Deploy.Resources.Reservations == nil {
		return
	}

	s.requests("deploy.resources.reservations.devices", s.in.Deploy.Resources.Reservations.Devices)
}

func (s *service) requests(key string, list []types.DeviceRequest) {
	for _, r := range list {
		if key != "gpus" && !slices.Contains(r.Capabilities, "gpu") {
			s.warn(key, "ignored: only devices with the capability gpu can be asked for; name others under devices")
			continue
		}

		if r.Driver == "nvidia" {
			s.out.Config["nvidia.runtime"] = "true"
			words := slices.DeleteFunc(slices.Clone(r.Capabilities), func(c string) bool { return c == "gpu" || c == "nvidia" })
			if len(words) > 0 {
				s.out.Config["nvidia.driver.capabilities"] = strings.Join(words, ",")
			}
		}

		at := s.place(key)
		if len(r.IDs) == 0 {
			if r.Count > 1 {
				s.warn(key, fmt.Sprintf("the service gets every GPU of the host, not %d: name them with device_ids", r.Count))
			}

			s.out.HostDevices = append(s.out.HostDevices, plan.HostDevice{Type: "gpu", At: at})
		}

		for _, id := range r.IDs {
			s.gpu(key, at, id)
		}
	}
}

// gpu is one GPU by its number or PCI address.
func (s *service) gpu(key string, at plan.Place, id string) {
	h := plan.HostDevice{Type: "gpu", Config: map[string]string{}, At: at}
	_, err := strconv.ParseUint(id, 10, 16)
	switch {
	case err == nil:
		h.Config["id"] = id
	case strings.Count(id, ":") > 0 && strings.Contains(id, "."):
		h.Config["pci"] = id
	default:
		s.refuse(key, fmt.Sprintf("%q is not a GPU", id), "write its number (/dev/dri/card0 is 0), or its PCI address")
	}

	s.out.HostDevices = append(s.out.HostDevices, h)
}
