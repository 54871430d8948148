package incus

// ParseHint is parseHint, for the fuzzer.
var ParseHint = parseHint

// ExitIn is what ExitOf makes of a log.
var ExitIn = exitIn
