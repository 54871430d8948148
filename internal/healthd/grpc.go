package healthd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/incus-compose/ic-agent/internal/health"
)

// serving is HealthCheckResponse.SERVING (grpc.health.v1, health.proto).
const serving = 1

// grpc calls grpc.health.v1.Health/Check: one message each way, so it needs no library for it.
func (w way) grpc(ctx context.Context, at string, p health.Probe) (string, error) {
	scheme := "http"
	tr := &http.Transport{DialContext: w, DisableKeepAlives: true, TLSClientConfig: tlsFor(p), ForceAttemptHTTP2: true, Protocols: &http.Protocols{}}
	defer tr.CloseIdleConnections()
	tr.Protocols.SetUnencryptedHTTP2(true)
	if p.TLS {
		scheme = "https"
		tr.Protocols.SetHTTP2(true)
	}

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://"+at+"/grpc.health.v1.Health/Check", bytes.NewReader(grpcRequest(p.Service)))
	if err != nil {
		return "", err
	}

	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	for k, v := range p.Headers {
		req.Header.Set(k, v)
	}

	if p.Host != "" {
		req.Host = p.Host
	}

	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}

	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
	if err != nil {
		return "", fmt.Errorf("read the answer: %w", err)
	}

	code, message := resp.Trailer.Get("Grpc-Status"), resp.Trailer.Get("Grpc-Message")
	if code == "" { // an answer without a message has it in its header
		code, message = resp.Header.Get("Grpc-Status"), resp.Header.Get("Grpc-Message")
	}

	if resp.StatusCode != http.StatusOK || code != "0" {
		return "", fmt.Errorf("HTTP %d, gRPC status %q %s", resp.StatusCode, code, message)
	}

	status, err := grpcStatus(body)
	if err != nil {
		return "", err
	}

	if status != serving {
		return "", fmt.Errorf("the service says status %d, not SERVING", status)
	}

	return "SERVING", nil
}

// grpcRequest is HealthCheckRequest{service} in a gRPC frame: a flag, the length, the message.
func grpcRequest(service string) []byte {
	var msg []byte
	if service != "" {
		msg = append(msg, 1<<3|2) // field 1, length-delimited
		msg = binary.AppendUvarint(msg, uint64(len(service)))
		msg = append(msg, service...)
	}

	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(msg))), msg...)
}

// grpcStatus reads field 1 of a HealthCheckResponse; a message without it says 0, UNKNOWN.
func grpcStatus(frame []byte) (uint64, error) {
	errShape := errors.New("the answer is no HealthCheckResponse")
	if len(frame) < 5 || frame[0] != 0 || uint64(binary.BigEndian.Uint32(frame[1:5])) != uint64(len(frame)-5) {
		return 0, errShape
	}

	msg := frame[5:]
	if len(msg) == 0 {
		return 0, nil
	}

	v, n := binary.Uvarint(msg[1:])
	if msg[0] != 1<<3 || n <= 0 {
		return 0, errShape
	}

	return v, nil
}
