package state

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"maps"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// codec is the version of the encoding of values.
const codec = 1

// header is the length of what stands before a payload: the codec version and the checksum.
const header = 1 + 4

// sealKey is the key of a bucket's seal. No stack, value or network is named so.
const sealKey = "#seal"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	errShort    = errors.New("shorter than its header")
	errCodec    = errors.New("written in an encoding this version does not know")
	errChecksum = errors.New("wrong checksum")
	errStale    = errors.New("another state than the one last written")
	errMissing  = errors.New("missing")
)

// encode returns the stored form of a payload. The path takes part in the checksum, so that a value never
// passes for another one.
func encode(path string, payload []byte) []byte {
	v := make([]byte, header, header+len(payload))
	v[0] = codec
	v = append(v, payload...)
	binary.BigEndian.PutUint32(v[1:header], checksum(path, v[0], payload))
	return v
}

// decode returns the payload of a stored value, as a copy. The errors are errShort, errCodec and errChecksum.
func decode(path string, v []byte) ([]byte, error) {
	if len(v) < header {
		return nil, errShort
	}
	payload := v[header:]
	if sum(v) != checksum(path, v[0], payload) {
		return nil, errChecksum
	}
	if v[0] != codec {
		return nil, errCodec
	}
	return bytes.Clone(payload), nil
}

// sum is the checksum a stored value carries; v is at least a header long.
func sum(v []byte) uint32 { return binary.BigEndian.Uint32(v[1:header]) }

func checksum(path string, version byte, payload []byte) uint32 {
	c := crc32.Update(0, castagnoli, []byte(path))
	c = crc32.Update(c, castagnoli, []byte{0, version})
	return crc32.Update(c, castagnoli, payload)
}

// Dropped is a value that could not be trusted and was left out.
type Dropped struct {
	// Stack is the stack it belonged to; empty for the subnets and the list of stacks.
	Stack string
	// Value is its name ("addresses", or a network's name among the subnets), "#seal" for a seal;
	// empty for a whole stack.
	Value string
	// Reason says what was wrong with it.
	Reason string
}

// newer tells whether nothing is wrong with it but that this version does not know it.
func (d Dropped) newer() bool { return d.Reason == errCodec.Error() }

// encodeSeal returns the seal of the bucket at path: the checksum of every value in it, by key.
func encodeSeal(path string, sums map[string]uint32) []byte {
	payload, err := json.Marshal(sums)
	if err != nil {
		panic(err) // a map of numbers always encodes
	}
	return encode(path+"/"+sealKey, payload)
}

// decodeSeal returns what the seal of the bucket at path says.
func decodeSeal(b *bolt.Bucket, path string) (map[string]uint32, error) {
	v := b.Get([]byte(sealKey))
	if v == nil {
		return nil, errMissing
	}
	payload, err := decode(path+"/"+sealKey, v)
	if err != nil {
		return nil, err
	}
	var sums map[string]uint32
	err = json.Unmarshal(payload, &sums)
	return sums, err
}

// unseal reads the bucket at path: the payloads that can be trusted, and the reasons why others cannot, both
// by key. Without its seal, a bucket's values stand on their own checksums.
func unseal(b *bolt.Bucket, path string) (payloads map[string][]byte, dropped map[string]error) {
	payloads, dropped = map[string][]byte{}, map[string]error{}
	want, err := decodeSeal(b, path)
	if err != nil {
		dropped[sealKey] = err
	}
	sealed := err == nil
	// ForEach passes on the error of its callback and has none of its own.
	_ = b.ForEach(func(k, v []byte) error {
		key := string(k)
		if key == sealKey {
			return nil
		}
		payload, err := decode(path+"/"+key, v)
		if err == nil && sealed && want[key] != sum(v) {
			err = errStale
		}
		delete(want, key)
		if err != nil {
			dropped[key] = err
			return nil
		}
		payloads[key] = payload
		return nil
	})
	for key := range want {
		dropped[key] = errMissing
	}
	return payloads, dropped
}

// values are the wanted contents of a bucket, stored form by key, the seal included.
type values map[string][]byte

// seal adds the seal to the values of the bucket at path.
func (w values) seal(path string) {
	sums := make(map[string]uint32, len(w))
	for k, v := range w {
		sums[k] = sum(v)
	}
	w[sealKey] = encodeSeal(path, sums)
}

// in says whether a bucket holds these values and nothing else.
func (w values) in(b *bolt.Bucket) bool {
	n, same := 0, true
	_ = b.ForEach(func(k, v []byte) error {
		n++
		same = same && bytes.Equal(w[string(k)], v)
		return nil
	})
	return same && n == len(w)
}

// write makes a bucket hold these values and nothing else, touching only what differs.
func (w values) write(b *bolt.Bucket) error {
	var gone [][]byte
	_ = b.ForEach(func(k, _ []byte) error {
		_, ok := w[string(k)]
		if !ok {
			gone = append(gone, bytes.Clone(k))
		}
		return nil
	})
	for _, k := range gone {
		err := b.Delete(k)
		if err != nil {
			return err
		}
	}
	for _, k := range slices.Sorted(maps.Keys(w)) {
		if bytes.Equal(b.Get([]byte(k)), w[k]) {
			continue
		}
		err := b.Put([]byte(k), w[k])
		if err != nil {
			return err
		}
	}
	return nil
}
