package compose

// projectExt are the keys of x-ic-agent at the top of a file, in the order of the page.
var projectExt = []extRule{
	{
		name: "mode", kind: extWord, words: []string{"apply", "plan-only"}, example: "plan-only",
		says: "`plan-only` shows what would be done and does nothing; `apply` is the default.",
	},
	{
		name: "after", kind: extList, example: "[database, proxy]",
		says: "Stacks that have to be in sync before this one does its first work.",
	},
	{
		name: "window", kind: extMapping, short: "at", need: []string{"at"}, example: `{at: "Sat 03:00", for: 2h}`,
		says: "When running services may be interrupted; what interrupts nothing is not kept waiting. A plain text is `at`. Without it, always.",
		below: []extRule{
			{name: "at", kind: extCalendar, example: `"Sat 03:00"`, says: "When the window opens, a calendar expression of systemd.time(7)."},
			{name: "for", kind: extDuration, least: 60, example: "2h", says: "How long it stays open; an hour by default."},
		},
	},
	{
		name: "update", kind: extMapping, example: `{check: daily, mode: notify}`, below: updateExt,
		says: "What is done about newer images of the references the file names.",
	},
	{
		name: "drift", kind: extWord, words: []string{"revert", "report"}, example: "report",
		says: "What is done about keys of ours that were changed by hand: `revert`, the default, puts them back, `report` only says it.",
	},
	{
		name: "protect", kind: extFlag, example: "true",
		says: "The stack runs on when its file is gone, until `ic-agent confirm-removal` says that it was meant.",
	},
	{
		name: "remove-grace", kind: extDuration, least: 1, example: "5m",
		says: "How long the services run on after the file is gone; 60s by default.",
	},
	{
		name: "keep", kind: extDuration, least: 1, example: "30d",
		says: "How long the stopped instances of a removed stack or service are kept; 7d by default. Volumes always stay.",
	},
	{
		name: "profiles", kind: extList, example: "[debug]",
		says: "The profiles that are enabled, with those of `COMPOSE_PROFILES` in `.env`.",
	},
	{
		name: "policy", kind: extWord, words: PolicyLevels, example: "strict",
		says: "How much the file may ask of the host; what the agent's settings say by default.",
	},
	{
		name: "allow", kind: extList, words: []string{"network-recreate"}, example: "[network-recreate]",
		says: "What is done only when it is allowed: `network-recreate` makes a network anew when a change needs that.",
	},
}

// serviceExt are the keys of x-ic-agent below a service, in the order of the page.
var serviceExt = []extRule{
	{
		name: "probe", kind: extMapping, one: true, short: "command", example: "{http: {port: 8080, path: /healthz}}",
		says: "A check made from the host instead of a command in the container; the times are those of `healthcheck`. A plain word is `command`.",
		below: []extRule{
			{
				name: "command", kind: extWord, words: []string{"auto", "exec"}, example: "auto",
				says: "`auto` lets the host make what the healthcheck's command would, where it is a form it knows (curl, wget, nc -z, pg_isready, redis-cli ping); `exec`, the default, runs it in the container.",
			},
			{
				name: "http", kind: extMapping, short: "port", example: "{port: 8080, path: /healthz}",
				says: "Passes when the answer's status is 200 to 399. A plain number is `port`.",
				below: []extRule{
					portExt("80, or 443 with `tls`, by default."),
					{name: "path", kind: extText, example: "/healthz", says: "The path and query; `/` by default."},
					{name: "method", kind: extText, example: "HEAD", says: "The method; `GET` by default."},
					{name: "host", kind: extText, example: "example.org", says: "The Host header, and the name asked for in TLS; the address by default."},
					{name: "headers", kind: extPairs, example: "{Accept: text/plain}", says: "Further headers."},
					{name: "status", kind: extNumber, least: 100, most: 599, example: "204", says: "Exactly this status instead."},
					{name: "body", kind: extText, example: "ok", says: "A text that the answer must contain, too."},
					tlsExt, verifyExt, deviceExt,
				},
			},
			{
				name: "tcp", kind: extMapping, short: "port", need: []string{"port"}, example: "{port: 5432}",
				says:  "Passes when the port accepts a connection. A plain number is `port`.",
				below: []extRule{portExt("There is no default."), tlsExt, verifyExt, deviceExt},
			},
			{
				name: "grpc", kind: extMapping, short: "port", need: []string{"port"}, example: "{port: 9000}",
				says: "Passes when grpc.health.v1 says SERVING. A plain number is `port`.",
				below: []extRule{
					portExt("There is no default."),
					{name: "service", kind: extText, example: "shop.Cart", says: "The service asked about; the server as a whole by default."},
					tlsExt, verifyExt, deviceExt,
				},
			},
			{
				name: "dns", kind: extMapping, short: "name", need: []string{"name"}, example: "{name: example.org}",
				says: "Passes when the name resolves. A plain text is `name`.",
				below: []extRule{
					{name: "name", kind: extText, example: "example.org", says: "The name asked for."}, portExt("53 by default."), deviceExt,
				},
			},
			{
				name: "redis", kind: extMapping, short: "port", example: "{port: 6379}",
				says: "Passes when PING is answered, be it with an error. A plain number is `port`.",
				below: []extRule{
					portExt("6379 by default."), {name: "body", kind: extText, example: "PONG", says: "A text that the answer must contain."}, deviceExt,
				},
			},
			{
				name: "postgres", kind: extMapping, short: "port", example: "{port: 5432}",
				says:  "Passes when the server takes connections, whoever asks. A plain number is `port`.",
				below: []extRule{portExt("5432 by default."), deviceExt},
			},
		},
	},
	{
		name: "on-unhealthy", kind: extWord, words: []string{"restart", "none", "stop", "notify"}, example: "none",
		says: "What is done about an unhealthy instance; `restart` where there is a restart policy, else `none`, by default.",
	},
	{
		name: "success-threshold", kind: extNumber, least: 1, most: 1000, example: "3",
		says: "How many checks in a row have to pass before an unhealthy instance is healthy again; 1 by default.",
	},
	{
		name: "stretch", kind: extNumber, least: 1, most: 4, example: "3",
		says: "How many times longer the interval of a check may be while the host is starved, once it has passed for ten intervals; 1, no longer, by default.",
	},
	{
		name: "on-change", kind: extMapping, short: "do", need: []string{"do"}, example: "{do: signal, signal: SIGUSR1}",
		says: "What is done when the content of a config or secret changed. A plain word is `do`.",
		below: []extRule{
			{
				name: "do", kind: extWord, words: []string{"restart", "signal", "push", "recreate", "none"}, example: "push",
				says: "`restart`, the default; `signal` writes the files and signals the process; `push` only writes them; `recreate` makes the instance anew; `none` waits for the next start.",
			},
			{name: "signal", kind: extText, example: "SIGUSR1", says: "The signal; SIGHUP by default."},
		},
	},
	{
		name: "update", kind: extMapping, example: `{mode: apply, min-age: 3d}`, below: updateExt,
		says: "The project's `update`, for this service.",
	},
	{
		name: "snapshot", kind: extFlag, example: "true",
		says: "Takes a snapshot of the service's volumes before an update that restarts it; the newest three are kept.",
	},
	{
		name: "protect", kind: extFlag, example: "true",
		says: "The service runs on when the file no longer has it, until `ic-agent confirm-removal` says that it was meant.",
	},
}

var updateExt = []extRule{
	{name: "check", kind: extCalendar, example: "daily", says: "When the registry is asked about newer images, a calendar expression of systemd.time(7); never by default."},
	{name: "mode", kind: extWord, words: []string{"notify", "apply"}, example: "apply", says: "`notify`, the default, only says it; `apply` updates the service."},
	{name: "min-age", kind: extDuration, example: "3d", says: "For how long a newer image has to be seen before `apply` takes it; it is taken at once by default."},
}

var (
	tlsExt    = extRule{name: "tls", kind: extFlag, example: "true", says: "Speaks TLS."}
	verifyExt = extRule{name: "verify", kind: extFlag, example: "true", says: "Verifies the certificate."}
	deviceExt = extRule{name: "device", kind: extText, example: "eth1", says: "The NIC whose address is used; the first with a static one by default."}
)

func portExt(empty string) extRule {
	return extRule{name: "port", kind: extNumber, least: 1, most: 65535, example: "8080", says: "The port in the instance. " + empty}
}
