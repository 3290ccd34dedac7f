package target

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/whyspin/whyspin/internal/sys"
)

// netFile is a list of sockets in /proc/PID/net, which shows the network namespace of the process: for
// kernels without the sock_diag modules, and for processes in another network namespace. Cookies and backlogs
// are not in it.
type netFile struct {
	name             string
	family, protocol uint8
}

var netFiles = []netFile{
	{"tcp", sys.FamilyINET, sys.ProtocolTCP},
	{"tcp6", sys.FamilyINET6, sys.ProtocolTCP},
	{"udp", sys.FamilyINET, sys.ProtocolUDP},
	{"udp6", sys.FamilyINET6, sys.ProtocolUDP},
	{"unix", sys.FamilyUnix, 0},
}

// read lists the sockets, at most maxSockets of them.
func (n netFile) read(directory string) ([]sys.Socket, error) {
	file, err := os.Open(filepath.Join(directory, "net", n.name))
	if err != nil {
		return nil, fmt.Errorf("listing sockets: %w", err)
	}
	defer func() { _ = file.Close() }()
	var list []sys.Socket
	lines := bufio.NewScanner(file)
	lines.Scan() // the heading
	for lines.Scan() {
		s, ok := n.parse(lines.Text())
		if !ok {
			continue
		}
		if len(list) == maxSockets {
			return list, sys.ErrTooMany
		}
		list = append(list, s)
	}
	return list, lines.Err()
}

// parse reads a line: proc_pid_net(5).
func (n netFile) parse(line string) (s sys.Socket, ok bool) {
	s = sys.Socket{Family: n.family, Protocol: n.protocol}
	fields := strings.Fields(line)
	inode := 9
	if n.family == sys.FamilyUnix {
		inode = 6
	}
	if len(fields) <= inode {
		return s, false
	}
	number, err := strconv.ParseUint(fields[inode], 10, 32)
	if err != nil {
		return s, false
	}
	s.Inode = uint32(number)
	if n.family == sys.FamilyUnix {
		return s, true
	}
	var ok1, ok2 bool
	s.Local, s.LocalPort, ok1 = parseNetAddress(fields[1])
	s.Remote, s.RemotePort, ok2 = parseNetAddress(fields[2])
	state, err1 := strconv.ParseUint(fields[3], 16, 8)
	send, receive, _ := strings.Cut(fields[4], ":")
	sendBytes, err2 := strconv.ParseUint(send, 16, 32)
	receiveBytes, err3 := strconv.ParseUint(receive, 16, 32)
	if !ok1 || !ok2 || err1 != nil || err2 != nil || err3 != nil {
		return s, false
	}
	s.State, s.SendQueue, s.ReceiveQueue = uint8(state), uint32(sendBytes), uint32(receiveBytes)
	return s, true
}

// parseNetAddress reads "0100007F:1F90": words of the address as the machine orders them, and the port.
func parseNetAddress(text string) (address [16]byte, port uint16, ok bool) {
	words, digits, _ := strings.Cut(text, ":")
	raw, err1 := hex.DecodeString(words)
	number, err2 := strconv.ParseUint(digits, 16, 16)
	if err1 != nil || err2 != nil || len(raw) > len(address) || len(raw)%4 != 0 {
		return address, 0, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(address[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	return address, uint16(number), true
}
