package compose

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

var cpuList = regexp.MustCompile(`^\d+(-\d+)?(,\d+(-\d+)?)*$`)

// cpus gives whole CPUs as a number and fractions as time: limits.cpu.allowance in percent would be a weight
// and not a limit. With cpuset, which takes limits.cpu, whole CPUs are time, too.
func (s *service) cpus() {
	limits := s.limits()
	cpus, deploy := s.in.CPUS, limits.NanoCPUs.Value()
	s.agree("cpus", "deploy.resources.limits.cpus", cpus != 0 && deploy != 0 && cpus != deploy)
	key := "cpus"
	if cpus == 0 {
		cpus, key = deploy, "deploy.resources.limits.cpus"
	}

	s.cpuset()
	whole := cpus == float32(math.Trunc(float64(cpus)))
	switch {
	case cpus == 0:
		s.cpuQuota()
	case cpus < 0 || cpus > 4096 || cpus != cpus:
		s.refuse(key, fmt.Sprintf("%v is not a number of CPUs", cpus), `write "0.5" or "2"`)
	case s.in.CPUQuota != 0:
		s.refuse("cpu_quota", "cpu_quota and "+key+" are the same limit", "keep one of the two")
	case whole && s.in.CPUSet == "":
		s.out.Config["limits.cpu"] = strconv.Itoa(int(cpus))
	default:
		s.out.Config["limits.cpu.allowance"] = fmt.Sprintf("%dms/100ms", max(1, int(math.Round(float64(cpus)*100))))
	}

	s.cpuShares()
}

// cpuset pins to CPUs; a single one is written as a range, because a number alone counts CPUs.
func (s *service) cpuset() {
	set := strings.ReplaceAll(s.in.CPUSet, " ", "")
	switch {
	case set == "":
		return
	case !cpuList.MatchString(set):
		s.refuse("cpuset", fmt.Sprintf("%q is not a list of CPUs", clip(s.in.CPUSet)), `write "0-3" or "0,1"`)
	case !strings.ContainsAny(set, ",-"):
		set += "-" + set
	}

	s.out.Config["limits.cpu"] = set
}

// cpuQuota is time in each period, both in microseconds; Incus counts in milliseconds.
func (s *service) cpuQuota() {
	quota, period := s.in.CPUQuota, s.in.CPUPeriod
	if period == 0 {
		period = 100_000
	}

	switch {
	case quota == 0 && s.in.CPUPeriod != 0:
		s.warn("cpu_period", "has no effect without cpu_quota")
	case quota == -1 || quota == 0:
	case quota < 1000 || period < 1000 || period > 1_000_000:
		s.refuse("cpu_quota", fmt.Sprintf("%d of %d microseconds", quota, period), "write a quota from 1000 and a period from 1000 to 1000000, or use cpus")
	case quota%1000 == 0 && period%1000 == 0:
		s.out.Config["limits.cpu.allowance"] = fmt.Sprintf("%dms/%dms", quota/1000, period/1000)
	default:
		s.out.Config["limits.cpu.allowance"] = fmt.Sprintf("%dms/100ms", max(1, int(math.Round(float64(quota)/float64(period)*100))))
	}
}

// cpuShares is a weight of 1024 for every service that names none, which Incus writes as a percentage; it has one
// key for a weight and for a limit.
func (s *service) cpuShares() {
	shares := s.in.CPUShares
	_, limited := s.out.Config["limits.cpu.allowance"]
	switch {
	case shares == 0:
	case shares < 2:
		s.refuse("cpu_shares", fmt.Sprintf("%d", shares), "write a number from 2 to 1024")
	case limited:
		s.warn("cpu_shares", "ignored: beside a limit in time there is no weight")
	default:
		if shares > 1024 {
			s.warn("cpu_shares", "the weight is 1024: no service gets more than an even share")
		}

		s.out.Config["limits.cpu.allowance"] = fmt.Sprintf("%d%%", min(100, max(1, (shares*100+512)/1024)))
	}
}
