package faults

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

const (
	deviceName = "ram0"
	// mtu is that of networks with jumbo frames: a copy of a data directory is not
	// to cost more packets than it must.
	mtu = 9000
)

// openTUN makes the only network device of the namespace that the calling thread is
// in, with an address in a network of 256. What is read from the file has been sent
// there, what is written to it arrives there: one IP packet at a time.
func openTUN(addr netip.Addr) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	if err := setUp(fd, addr); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), "/dev/net/tun"), nil
}

func setUp(fd int, addr netip.Addr) error {
	device, err := unix.NewIfreq(deviceName)
	if err != nil {
		return err
	}
	device.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, device); err != nil {
		return fmt.Errorf("make the device: %w", err)
	}
	address := func(r *unix.Ifreq) error { return r.SetInet4Addr(addr.AsSlice()) }
	netmask := func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) }
	size := func(r *unix.Ifreq) error { r.SetUint32(mtu); return nil }
	return errors.Join(
		configure(deviceName, unix.SIOCSIFADDR, address),
		configure(deviceName, unix.SIOCSIFNETMASK, netmask),
		configure(deviceName, unix.SIOCSIFMTU, size),
		bringUp(deviceName),
	)
}

func bringUp(device string) error {
	return configure(device, unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error {
		r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		return nil
	})
}

// configure does one request on a device of the calling thread's namespace.
func configure(device string, request uint, fill func(*unix.Ifreq) error) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	r, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	if err := fill(r); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(socket, request, r); err != nil {
		return fmt.Errorf("set up the device %s: %w", device, err)
	}
	return nil
}
