package plan

// Kind is a kind of Incus object.
type Kind string

// The kinds a plan touches.
const (
	KindProject  Kind = "project"
	KindNetwork  Kind = "network"
	KindVolume   Kind = "volume"
	KindImage    Kind = "image"
	KindInstance Kind = "instance"
)

// ID names an object. It prints as "instance/web-1".
type ID struct {
	Kind Kind
	Name string
}

// String returns "kind/name".
func (id ID) String() string { return string(id.Kind) + "/" + id.Name }
