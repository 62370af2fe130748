//go:build !linux

package netloop

import "errors"

const haveLoops = false

func newLoops(Options) (Engine, error) {
	return nil, errors.New("event loops need Linux")
}
