package probe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Bodies bounds the memory that the bodies of all probes in flight take together.
// Small ones are free; large ones wait for their turn. A nil pointer bounds
// nothing. It is safe for concurrent use.
type Bodies struct {
	size    int64
	room    *semaphore.Weighted
	buffers sync.Pool // of *bytes.Buffer that have grown
}

const (
	// MaxMatchedBody is what is read of a body to match regular expressions with it,
	// in bytes, where the module has no limit: it is in memory.
	MaxMatchedBody = 16 << 20
	// freeBody is what each body may take without waiting.
	freeBody = 64 << 10
)

// NewBodies returns a bound in bytes.
func NewBodies(size int64) *Bodies {
	return &Bodies{size: size, room: semaphore.NewWeighted(size)}
}

// ErrNoRoom says that a large body was not read.
var ErrNoRoom = errors.New("other large bodies took the memory for bodies until the time was up")

// Read reads a body to its end. What is made of it takes factor bytes for each.
// The text is valid until release is called.
func (b *Bodies) Read(ctx context.Context, body io.Reader, limit int64, factor int64) (text []byte, release func(), err error) {
	small := &bytes.Buffer{}
	if n, err := io.Copy(small, io.LimitReader(body, freeBody/factor)); err != nil || n < freeBody/factor {
		return small.Bytes(), func() {}, err
	}
	buffer, release, err := b.take(ctx, limit, factor)
	if err != nil {
		return nil, func() {}, err
	}
	buffer.Write(small.Bytes())
	_, err = io.Copy(buffer, body)
	return buffer.Bytes(), release, err
}

// take waits for room. A body that may be larger than all of it has it alone.
func (b *Bodies) take(ctx context.Context, limit, factor int64) (*bytes.Buffer, func(), error) {
	if b == nil {
		return &bytes.Buffer{}, func() {}, nil
	}
	weight := b.size
	if limit <= b.size/factor {
		weight = limit * factor
	}
	if err := b.room.Acquire(ctx, weight); err != nil {
		return nil, nil, ErrNoRoom
	}
	buffer, ok := b.buffers.Get().(*bytes.Buffer)
	if !ok {
		buffer = &bytes.Buffer{}
	}
	buffer.Reset()
	buffer.Grow(int(min(limit, MaxMatchedBody) + bytes.MinRead))
	return buffer, func() {
		b.buffers.Put(buffer)
		b.room.Release(weight)
	}, nil
}
