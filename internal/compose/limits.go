package compose

import (
	"fmt"
	"maps"
	"math"
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

// cpus gives whole CPUs as a number and fractions as time: limits.cpu.allowance in percent would be a weight
// and not a limit.
func (s *service) cpus() {
	limits := s.limits()
	cpus, deploy := s.in.CPUS, limits.NanoCPUs.Value()
	s.agree("cpus", "deploy.resources.limits.cpus", cpus != 0 && deploy != 0 && cpus != deploy)
	key := "cpus"
	if cpus == 0 {
		cpus, key = deploy, "deploy.resources.limits.cpus"
	}

	switch {
	case cpus == 0:
	case cpus < 0 || cpus > 4096 || cpus != cpus:
		s.refuse(key, fmt.Sprintf("%v is not a number of CPUs", cpus), `write "0.5" or "2"`)
	case cpus == float32(math.Trunc(float64(cpus))):
		s.out.Config["limits.cpu"] = strconv.Itoa(int(cpus))
	default:
		s.out.Config["limits.cpu.allowance"] = fmt.Sprintf("%dms/100ms", max(1, int(math.Round(float64(cpus)*100))))
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
