// Command ic-healthd runs health checks and restart policies on an Incus host. See ic-healthd(8).
package main

import "fmt"

// version is set at link time.
var version = "devel"

func main() { fmt.Println("ic-healthd " + version) }
