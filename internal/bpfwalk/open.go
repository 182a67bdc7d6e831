//go:build linux && (amd64 || arm64 || loong64 || mips64le || ppc64le || riscv64)

package bpfwalk

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/owner"
)

// Open loads the programs, and compares what they read with what sock_diag says of
// sockets of our own. The error is errors.ErrUnsupported where the engine cannot be
// used, whatever the reason, which it names.
func Open(ctx context.Context) (*Engine, error) {
	if err := possible(); err != nil {
		return nil, unsupported(err)
	}
	e, err := load()
	if err != nil {
		return nil, unsupported(loadError(err))
	}
	if err := e.check(ctx); err != nil {
		e.Close()
		return nil, unsupported(fmt.Errorf("self-check: %w", err))
	}
	return e, nil
}

func unsupported(err error) error { return fmt.Errorf("bpf: %w: %w", errors.ErrUnsupported, err) }

// possible looks for what loading requires, for an error that says what is missing:
// that of the kernel would be "operation not permitted".
func possible() error {
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		return errors.New("the kernel does not describe its types in /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF)")
	}
	if err := privileged(); err != nil {
		return err
	}
	spec, err := btf.LoadKernelSpec()
	if err != nil {
		return err
	}
	for _, name := range []string{"bpf_rdonly_cast", "bpf_rcu_read_lock"} {
		var function *btf.Func
		if err := spec.TypeByName(name, &function); err != nil {
			return fmt.Errorf("the kernel has no %s, which came with Linux 6.2", name)
		}
	}
	return nil
}

// privileged looks for CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN, which includes them.
func privileged() error {
	switch has := owner.HasCapability; {
	case has(unix.CAP_SYS_ADMIN), has(unix.CAP_BPF) && has(unix.CAP_PERFMON):
		return nil
	case has(unix.CAP_BPF):
		return errors.New("requires CAP_PERFMON beside CAP_BPF")
	default:
		return errors.New("requires CAP_BPF and CAP_PERFMON")
	}
}

// loadError shortens the error of the verifier, which has its whole log.
func loadError(err error) error {
	if refused, ok := errors.AsType[*ebpf.VerifierError](err); ok {
		return fmt.Errorf("the kernel refused a program: %w", refused.Cause)
	}
	return fmt.Errorf("load programs: %w", err)
}
