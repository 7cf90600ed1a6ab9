package snapshot

import "reflect"

// settle returns what a node's value becomes when it was old and is now computed as fresh, and whether that is a change.
// Both are nil or pointers to the same struct type. Equal content keeps the old pointer, of the value itself and of each
// part that it points to. fresh is not yet anybody else's, so it may be written.
func settle(old, fresh any) (value any, changed bool) {
	was, is := reflect.ValueOf(old), reflect.ValueOf(fresh)
	if !was.IsValid() || !is.IsValid() || was.IsNil() || is.IsNil() || was.Type() != is.Type() {
		bothNil := (!was.IsValid() || was.IsNil()) && (!is.IsValid() || is.IsNil())
		return fresh, !bothNil
	}
	for i := range is.Elem().NumField() {
		before, after := was.Elem().Field(i), is.Elem().Field(i)
		if after.Kind() == reflect.Pointer && same(before, after) {
			after.Set(before)
		}
	}
	if same(was, is) {
		return old, false
	}
	return fresh, true
}

var memoType = reflect.TypeFor[Memo]()

// same tells whether two values of one type have the same content, whatever translators noted in them.
func same(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Pointer:
		return a.UnsafePointer() == b.UnsafePointer() || !a.IsNil() && !b.IsNil() && same(a.Elem(), b.Elem())
	case reflect.Struct:
		if a.Type() == memoType {
			return true
		}
		if a.Type().PkgPath() != memoType.PkgPath() { // an address: no structs of others but comparable ones are in a part
			return a.Equal(b)
		}
		for i := range a.NumField() {
			if !same(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	case reflect.Slice:
		if a.Len() != b.Len() {
			return false
		}
		if a.UnsafePointer() == b.UnsafePointer() {
			return true
		}
		for i := range a.Len() {
			if !same(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	}
	return a.Equal(b)
}
