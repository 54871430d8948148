package state

import (
	"reflect"
	"testing"

	"github.com/incus-compose/ic-agent/internal/plan"
)

// TestEveryFieldIsKept: a field of the ledger that is not to be forgotten with the process is stored.
func TestEveryFieldIsKept(t *testing.T) {
	var l plan.Ledger
	kept := map[any]bool{}
	for _, field := range fields(&l) {
		kept[field] = true
	}

	v := reflect.ValueOf(&l).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Name != "Stack" && f.Tag.Get("json") != "-" && !kept[v.Field(i).Addr().Interface()] {
			t.Errorf("%s is stored nowhere", f.Name)
		}
	}
}
