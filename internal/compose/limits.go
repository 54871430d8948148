package compose

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/compose-spec/compose-go/v2/types"
)

// limits are deploy.resources.limits; the zero Resource when there are none.
func (s *service) limits() types.Resource {
	if s.in.Deploy == nil || s.in.Deploy.Resources.Limits == nil {
		return types.Resource{}
	}

	return *s.in.Deploy.Resources.Limits
}

// agree refuses a limit that is given twice with different values.
func (s *service) agree(key, other string, differ bool) {
	if differ {
		s.refuse(key, fmt.Sprintf("%s and %s differ", key, other), "keep one of the two")
	}
}

func (s *service) memory() {
	limit, deploy := s.in.MemLimit, s.limits().MemoryBytes
	s.agree("mem_limit", "deploy.resources.limits.memory", limit != 0 && deploy != 0 && limit != deploy)
	key := "mem_limit"
	if limit == 0 {
		limit, key = deploy, "deploy.resources.limits.memory"
	}

	switch {
	case limit < 0:
		s.refuse(key, "is negative", `write a number and a unit, "512m"`)
	case limit > 0:
		s.out.Config["limits.memory"] = byteSize(int64(limit))
	}
}

// byteSize writes bytes in the largest unit without a rest.
func byteSize(n int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n%unit.size == 0 {
			return strconv.FormatInt(n/unit.size, 10) + unit.name
		}
	}

	return strconv.FormatInt(n, 10) + "B"
}

// memoryReserve is what a service keeps when memory is short: limits.memory, not enforced. Incus has one key for
// a limit and a reservation.
func (s *service) memoryReserve() {
	var deploy types.UnitBytes
	if s.in.Deploy != nil && s.in.Deploy.Resources.Reservations != nil {
		deploy = s.in.Deploy.Resources.Reservations.MemoryBytes
	}

	reserve, key := s.in.MemReservation, "mem_reservation"
	s.agree(key, "deploy.resources.reservations.memory", reserve != 0 && deploy != 0 && reserve != deploy)
	if reserve == 0 {
		reserve, key = deploy, "deploy.resources.reservations.memory"
	}

	_, limited := s.out.Config["limits.memory"]
	switch {
	case reserve == 0:
	case reserve < 0:
		s.refuse(key, "is negative", `write a number and a unit, "256m"`)
	case limited:
		s.warn(key, "ignored beside a limit, which holds: Incus has one key for the two")
	default:
		s.out.Config["limits.memory"] = byteSize(int64(reserve))
		s.out.Config["limits.memory.enforce"] = "soft"
	}
}

// swap is memswap_limit, which counts memory and swap together, and mem_swappiness, of which the kernel's unified
// control groups have left only "none".
func (s *service) swap() {
	total, memory := s.in.MemSwapLimit, s.in.MemLimit
	if memory == 0 {
		memory = s.limits().MemoryBytes
	}

	switch {
	case total == 0:
	case total == -1:
		s.out.Config["limits.memory.swap"] = "true"
	case memory == 0:
		s.refuse("memswap_limit", "needs mem_limit, because it counts memory and swap together", "add mem_limit")
	case total < memory:
		s.refuse("memswap_limit", "is smaller than the limit of memory, and counts it", "write at least as much as mem_limit")
	case total == memory:
		s.out.Config["limits.memory.swap"] = "false"
	default:
		s.out.Config["limits.memory.swap"] = byteSize(int64(total - memory))
	}

	if !s.t.index.has(s.key + ".mem_swappiness") {
		return
	}

	if s.in.MemSwappiness == 0 {
		s.out.Config["limits.memory.swap"] = "false"
		return
	}

	s.warn("mem_swappiness", "only 0, which is no swap, is honoured: the kernel has no such setting for one service")
}

// blkio honours the weight of a service among others: limits.disk.priority, from 0 to 10.
func (s *service) blkio() {
	c := s.in.BlkioConfig
	if c == nil {
		return
	}

	for key, there := range map[string]bool{
		"weight_device": len(c.WeightDevice) > 0, "device_read_bps": len(c.DeviceReadBps) > 0, "device_read_iops": len(c.DeviceReadIOps) > 0,
		"device_write_bps": len(c.DeviceWriteBps) > 0, "device_write_iops": len(c.DeviceWriteIOps) > 0,
	} {
		if there {
			s.warn("blkio_config."+key, "ignored: Incus limits disks of its own, not the host's; set limits.read and limits.write on one with x-incus-compose.devices")
		}
	}

	switch {
	case c.Weight == 0:
	case c.Weight < 10 || c.Weight > 1000:
		s.refuse("blkio_config.weight", fmt.Sprintf("%d", c.Weight), "write a number from 10 to 1000")
	default:
		s.out.Config["limits.disk.priority"] = strconv.Itoa(int(c.Weight+50) / 100)
	}
}

func (s *service) pids() {
	limit, deploy := s.in.PidsLimit, s.limits().Pids
	s.agree("pids_limit", "deploy.resources.limits.pids", limit != 0 && deploy != 0 && limit != deploy)
	if limit == 0 {
		limit = deploy
	}

	if limit > 0 {
		s.out.Config["limits.processes"] = strconv.FormatInt(limit, 10)
	}
}

// ulimitNames are the limits liblxc sets (prlimit), which are those of setrlimit(2).
var ulimitNames = []string{
	"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
}

func (s *service) ulimits() {
	for _, name := range slices.Sorted(maps.Keys(s.in.Ulimits)) {
		u := s.in.Ulimits[name]
		if !slices.Contains(ulimitNames, name) {
			s.refuse("ulimits."+name, fmt.Sprintf("unknown limit %q", name), didYouMean(name, ulimitNames))
			continue
		}

		soft, hard := u.Soft, u.Hard
		if u.Single != 0 {
			soft, hard = u.Single, u.Single
		}

		value := rlimit(soft)
		if soft != hard {
			value += ":" + rlimit(hard)
		}

		s.out.Config["limits.kernel."+name] = value
	}
}

func rlimit(n int) string {
	if n < 0 {
		return "unlimited"
	}

	return strconv.Itoa(n)
}

func didYouMean(word string, words []string) string {
	guess := nearest(word, words)
	if guess == "" {
		return "remove it"
	}

	return fmt.Sprintf("did you mean %s?", guess)
}

func (s *service) sysctls() {
	for k, v := range s.in.Sysctls {
		s.out.Config["linux.sysctl."+k] = v
	}
}
