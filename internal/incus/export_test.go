package incus

// ParseHint is parseHint, for the fuzzer.
var ParseHint = parseHint
