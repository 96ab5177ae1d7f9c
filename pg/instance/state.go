package instance

// PrepareState makes the directories below StateDir, for who has sockets of its own
// there: PostgreSQL's user may enter SocketDir.
func (i *Instance) PrepareState() error {
	i.building.Lock()
	defer i.building.Unlock()
	return i.prepareState()
}
