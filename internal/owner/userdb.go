package owner

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os/user"
	"path/filepath"
	"syscall"
	"time"
)

// How systemd gives the names of users (systemd.io/USER_GROUP_API): each service
// has a socket of its name in a directory. The first knows the users of DynamicUser=
// and is systemd itself, the second asks all others, the name service too, where
// systemd-userdbd runs.
const (
	userdbDir        = "run/systemd/userdb"
	userdbDynamic    = "io.systemd.DynamicUser"
	userdbAll        = "io.systemd.Multiplexer"
	userdbPatience   = 300 * time.Millisecond // of each
	userdbNotFound   = "io.systemd.UserDatabase.NoRecordFound"
	userdbGetUser    = "io.systemd.UserDatabase.GetUserRecord"
	maxUserdbMessage = 64 << 10
)

// The users that systemd makes up for DynamicUser= (systemd.io/UIDS-GIDS).
const firstDynamic, lastDynamic = 61184, 65519

// nameInUserdb returns the name of a user that systemd knows, with the sockets of
// its services in a directory.
func nameInUserdb(dir string, uid uint32) (string, error) {
	services := []string{userdbAll}
	if uid >= firstDynamic && uid <= lastDynamic {
		services = []string{userdbDynamic, userdbAll}
	}
	err := error(user.UnknownUserIdError(uid))
	for _, service := range services {
		name, askErr := askUserdb(dir, service, uid)
		if askErr == nil {
			return name, nil
		}
		var unknown user.UnknownUserIdError
		if !errors.As(askErr, &unknown) && !isAbsent(askErr) {
			err = askErr
		}
	}
	return "", err
}

type userdbCall struct {
	Method     string           `json:"method"`
	Parameters userdbParameters `json:"parameters"`
}

type userdbParameters struct {
	UID     uint32 `json:"uid"`
	Service string `json:"service"`
}

type userdbReply struct {
	Error      string `json:"error"`
	Parameters struct {
		Record struct {
			UserName string  `json:"userName"`
			UID      *uint32 `json:"uid"`
		} `json:"record"`
	} `json:"parameters"`
}

// askUserdb asks one service, in the protocol of varlink.org: JSON that ends with
// a zero byte.
func askUserdb(dir, service string, uid uint32) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), userdbPatience)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, service))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	call, err := json.Marshal(userdbCall{userdbGetUser, userdbParameters{uid, service}})
	if err != nil {
		return "", err
	}
	if _, err := conn.Write(append(call, 0)); err != nil {
		return "", err
	}
	text, err := bufio.NewReader(io.LimitReader(conn, maxUserdbMessage)).ReadBytes(0)
	if err != nil {
		return "", fmt.Errorf("%s: %w", service, err)
	}
	return nameInReply(text[:len(text)-1], uid)
}

// nameInReply returns the name in an answer about a user.
func nameInReply(text []byte, uid uint32) (string, error) {
	var reply userdbReply
	if err := json.Unmarshal(text, &reply); err != nil {
		return "", fmt.Errorf("userdb: %w", err)
	}
	record := reply.Parameters.Record
	switch {
	case reply.Error == userdbNotFound:
		return "", user.UnknownUserIdError(uid)
	case reply.Error != "":
		return "", fmt.Errorf("userdb: %s", reply.Error)
	case record.UserName == "", record.UID == nil, *record.UID != uid:
		return "", errors.New("userdb: response is for another user")
	}
	return record.UserName, nil
}

// isAbsent reports whether an error says that something is not there.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTDIR)
}
