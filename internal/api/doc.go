// Package api is how the verbs of ic-agent reach the daemon: HTTP with JSON over a unix socket.
//
//	GET  /v1/status                         Status
//	GET  /v1/plan[?stack=NAME]              []PlanReply
//	GET  /v1/dns                            NamesReply
//	GET  /v1/dns?name=NAME[&from=WHO]       DNSReply
//	POST /v1/reload[?wait=true]             ReloadReply
//	POST /v1/confirm-removal                ConfirmRequest → ConfirmReply
//	POST /v1/destroy                        DestroyRequest → DestroyReply
//	POST /v1/adopt                          AdoptRequest → AdoptReply
//	GET  /metrics                           Prometheus text, where the daemon has a registry
//
// A refusal is an Error with the status code of its Kind. Reading is for whoever can open the socket; what
// changes something (POST) is for root, the agent's own user and members of the socket's group or of
// incus-admin, who are as mighty as root already. The kernel says who is calling (SO_PEERCRED in unix(7)).
//
// Names in the JSON stay; fields are only added. The package shows what it is given and decides nothing.
package api
