//go:build !linux

package route

import "errors"

// Get is not known here.
func Get(Query) (Route, error) { return Route{}, errors.ErrUnsupported }
