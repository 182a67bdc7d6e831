package porttest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// Get asks a server in the test's namespace for a path, and returns the status
// and the body. It dials on the test's own goroutine, which net/http does not,
// and ends with a reset, so that no socket stays in TIME_WAIT.
func Get(t testing.TB, address, path string) (int, string) {
	t.Helper()
	status, body, err := TryGet(address, path)
	if err != nil {
		t.Fatal(err)
	}
	return status, body
}

// Post is Get with the method POST, and nothing posted.
func Post(t testing.TB, address, path string) (int, string) {
	t.Helper()
	status, body, err := request(http.MethodPost, address, path)
	if err != nil {
		t.Fatal(err)
	}
	return status, body
}

// TryGet is Get for a server that may not be there yet.
func TryGet(address, path string) (status int, body string, err error) {
	return request(http.MethodGet, address, path)
}

func request(method, address, path string) (status int, body string, err error) {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		return 0, "", err
	}
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return 0, "", err
	}
	r, err := http.NewRequest(method, "http://"+address+path, nil)
	if err != nil {
		return 0, "", err
	}
	if err := r.Write(conn); err != nil {
		return 0, "", err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}
