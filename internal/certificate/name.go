package certificate

import (
	"fmt"
	"strings"

	"github.com/whyspin/whyspin/internal/tlsconn"
)

// oneLine prints a distinguished name as OpenSSL does on one line: /C=CH/CN=name. What is no printable ASCII
// is escaped.
func oneLine(raw []byte) string {
	var b strings.Builder
	for _, a := range tlsconn.DistinguishedName(raw) {
		b.WriteString("/" + a.Type + "=")
		for _, c := range []byte(a.Value) {
			if c < ' ' || c > '~' {
				fmt.Fprintf(&b, `\x%02X`, c)
			} else {
				b.WriteByte(c)
			}
		}
	}
	return b.String()
}
