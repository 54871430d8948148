package state

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// Subnets returns the subnets reserved, by Incus network. The error is ErrDamaged.
func (db *DB) Subnets() (map[string]netip.Prefix, error) {
	subnets := map[string]netip.Prefix{}
	var dropped []Dropped
	err := db.view(func(tx *bolt.Tx) error {
		subnets, dropped = readSubnets(tx.Bucket(subnetsBucket))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list subnets: %w", err)
	}
	for _, d := range dropped {
		db.drop(d)
	}
	return subnets, nil
}

// Reserve returns the subnet reserved for an Incus network. When there is none it has pick choose one, given
// those that are taken, and stores it before it returns. No other reservation is made meanwhile, so no subnet
// is picked twice. An error of pick is passed on and nothing is stored.
func (db *DB) Reserve(network string, pick func(taken map[string]netip.Prefix) (netip.Prefix, error)) (netip.Prefix, error) {
	db.reserve.Lock()
	defer db.reserve.Unlock()
	err := nameable(network)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("reserve subnet: %w", err)
	}
	subnets, err := db.Subnets()
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("reserve subnet for %s: %w", network, err)
	}
	have, ok := subnets[network]
	if ok {
		return have, nil
	}
	subnet, err := pick(maps.Clone(subnets))
	if err == nil && !subnet.IsValid() {
		err = errors.New("no subnet was chosen")
	}
	if err == nil {
		subnets[network] = subnet
		err = db.writeSubnets(subnets)
	}
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("reserve subnet for %s: %w", network, err)
	}
	return subnet, nil
}

// Release gives the subnet of an Incus network back; one that has none is a success.
func (db *DB) Release(network string) error {
	db.reserve.Lock()
	defer db.reserve.Unlock()
	subnets, err := db.Subnets()
	if err != nil {
		return fmt.Errorf("release subnet of %s: %w", network, err)
	}
	_, ok := subnets[network]
	if !ok {
		return nil
	}
	delete(subnets, network)
	err = db.writeSubnets(subnets)
	if err != nil {
		return fmt.Errorf("release subnet of %s: %w", network, err)
	}
	return nil
}

func (db *DB) writeSubnets(subnets map[string]netip.Prefix) error {
	return db.update(func(tx *bolt.Tx) error {
		return encodeSubnets(subnets).write(tx.Bucket(subnetsBucket))
	})
}

func encodeSubnets(subnets map[string]netip.Prefix) values {
	path, w := string(subnetsBucket), values{}
	for network, subnet := range subnets {
		w[network] = encode(path+"/"+network, []byte(subnet.String()))
	}
	w.seal(path)
	return w
}

func readSubnets(b *bolt.Bucket) (map[string]netip.Prefix, []Dropped) {
	payloads, bad := unseal(b, string(subnetsBucket))
	subnets := make(map[string]netip.Prefix, len(payloads))
	for network, payload := range payloads {
		subnet, err := netip.ParsePrefix(string(payload))
		if err != nil {
			bad[network] = err
			continue
		}
		subnets[network] = subnet
	}
	var dropped []Dropped
	for _, network := range slices.Sorted(maps.Keys(bad)) {
		dropped = append(dropped, Dropped{Value: network, Reason: bad[network].Error()})
	}
	return subnets, dropped
}
