package plan_test

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// TestSnapshotStays fills every map and list of a ledger, takes a snapshot, and empties them all in place, the
// nested ones included.
func TestSnapshotStays(t *testing.T) {
	made := func() plan.Ledger {
		var l plan.Ledger
		fill(reflect.ValueOf(&l).Elem())

		return l
	}

	l := made()
	got := l.Snapshot()
	drain(reflect.ValueOf(&l).Elem())
	diff := cmp.Diff(made(), got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.AllowUnexported(plan.Secret{}))
	if diff != "" {
		t.Errorf("the snapshot changed with the ledger:\n%s", diff)
	}
}

// shared is what a ledger replaces as a whole and never changes.
func shared(t reflect.Type) bool {
	return t == reflect.TypeFor[*plan.Project]() || t == reflect.TypeFor[plan.Image]() || t == reflect.TypeFor[plan.Version]() ||
		t == reflect.TypeFor[*plan.Pin]()
}

// fill gives every map and list below v one entry.
func fill(v reflect.Value) {
	switch {
	case shared(v.Type()):
	case v.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		entry := reflect.New(v.Type().Elem()).Elem()
		fill(entry)
		v.SetMapIndex(reflect.New(v.Type().Key()).Elem(), entry)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.Kind() == reflect.Struct && v.Type().PkgPath() == reflect.TypeFor[plan.Ledger]().PkgPath():
		for _, field := range v.Fields() {
			fill(field)
		}
	}
}

// drain writes to whatever fill made, in place.
func drain(v reflect.Value) {
	switch {
	case shared(v.Type()):
	case v.Kind() == reflect.Map:
		for _, k := range v.MapKeys() {
			entry := v.MapIndex(k)
			copied := reflect.New(entry.Type()).Elem()
			copied.Set(entry)
			drain(copied)
		}

		v.Clear()
	case v.Kind() == reflect.Slice && v.Len() > 0 && v.Type().Elem().Kind() == reflect.String:
		v.Index(0).SetString("written later")
	case v.Kind() == reflect.Slice && v.Len() > 0:
		for _, field := range v.Index(0).Fields() {
			if field.Kind() == reflect.String {
				field.SetString("written later")
			}
		}
	case v.Kind() == reflect.Pointer && !v.IsNil():
		drain(v.Elem())
	case v.Kind() == reflect.Bool:
		v.SetBool(false)
	case v.Kind() == reflect.Struct && v.Type().PkgPath() == reflect.TypeFor[plan.Ledger]().PkgPath():
		for _, field := range v.Fields() {
			drain(field)
		}
	}
}
