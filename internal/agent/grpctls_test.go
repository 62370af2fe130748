package agent

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/raskell-io/sentinel-agent-mqtt-gateway/internal/agent/pb/agentv1"
)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	a := &authority{}
	a.pem, a.key = a.issue(tb, &x509.Certificate{
		Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	block, _ := pem.Decode(a.pem)
	var err error
	if a.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		tb.Fatal(err)
	}
	return a
}

func (a *authority) issue(tb testing.TB, c *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(1), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		tb.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key
}

// pair issues a certificate for this machine, as PEM.
func (a *authority) pair(tb testing.TB, name string) (cert, key []byte) {
	tb.Helper()
	cert, k := a.issue(tb, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		tb.Fatal(err)
	}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// TestClientCertificates: with client-ca-file only who shows a certificate of it
// is served, and a reload takes new ones.
func TestClientCertificates(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	path := func(name string, b []byte) string {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	cert, key := ours.pair(t, "agent")
	text := conf(`"agent":{"accept-config":"grpc","grpc-tls":{"cert-file":"` + path("cert", cert) + `","key-file":"` + path("key", key) +
		`","client-ca-file":"` + path("ca", ours.pem) + `"}}`)
	a := open(t, text, nil, overRPC)
	call := func(by *authority) error {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ours.pem)
		c := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		if by != nil {
			cert, key := by.pair(t, "proxy")
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			c.Certificates = []tls.Certificate{pair}
		}
		cc := a.dialRPC(t, grpc.WithTransportCredentials(credentials.NewTLS(c)))
		_, err := agentv1.NewAgentProcessorClient(cc).ProcessEvent(t.Context(), &agentv1.AgentRequest{Version: 1})
		return err
	}
	if err := call(ours); err != nil {
		t.Errorf("a proxy with a certificate: %v", err)
	}
	for name, by := range map[string]*authority{"no certificate": nil, "one of another authority": others} {
		if err := call(by); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
	cc := a.dialRPC(t, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if _, err := agentv1.NewAgentProcessorClient(cc).ProcessEvent(t.Context(), &agentv1.AgentRequest{Version: 1}); status.Code(err) != codes.Unavailable {
		t.Errorf("plain text: %v, want it refused", err)
	}

	path("ca", others.pem)
	reload(t, a, text)
	if err := call(others); err != nil {
		t.Errorf("after the reload, of the new authority: %v", err)
	}
	if err := call(ours); status.Code(err) != codes.Unavailable {
		t.Errorf("after the reload, of the old authority: %v, want it refused", err)
	}
	if err := a.Reload(parse(t, a.dir, conf())); err == nil {
		t.Error("TLS was turned off without a restart")
	}
	path("ca", []byte("nothing"))
	if err := a.Reload(parse(t, a.dir, text)); err == nil {
		t.Error("an authority file without a certificate was taken")
	}
}
