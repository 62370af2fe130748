package session

import (
	"maps"
	"slices"
)

// fewFilters is up to how many subscriptions are kept in a plain list: most
// clients have one or two, and a map of them would be their largest part.
const fewFilters = 16

// filters are the subscriptions that the broker granted to this session. A nil
// set is empty.
type filters struct {
	few  []string
	many map[string]struct{} // nil while there are few
}

func (f *filters) len() int {
	if f == nil {
		return 0
	}
	return len(f.few) + len(f.many)
}

func (f *filters) has(filter string) bool {
	if f == nil {
		return false
	}
	if f.many != nil {
		_, ok := f.many[filter]
		return ok
	}
	return slices.Contains(f.few, filter)
}

func (f *filters) add(filter string) {
	switch {
	case f.has(filter):
	case f.many != nil:
		f.many[filter] = struct{}{}
	case len(f.few) < fewFilters:
		f.few = append(f.few, filter)
	default:
		f.many = make(map[string]struct{}, 2*fewFilters)
		for _, g := range f.few {
			f.many[g] = struct{}{}
		}
		f.few = nil
		f.many[filter] = struct{}{}
	}
}

func (f *filters) remove(filter string) {
	if f == nil {
		return
	}
	if f.many != nil {
		delete(f.many, filter)
		return
	}
	if i := slices.Index(f.few, filter); i >= 0 {
		f.few = slices.Delete(f.few, i, i+1)
	}
}

// sorted returns all of them in an order that does not depend on chance.
func (f *filters) sorted() []string {
	if f == nil {
		return nil
	}
	if f.many != nil {
		return slices.Sorted(maps.Keys(f.many))
	}
	return slices.Sorted(slices.Values(f.few))
}
