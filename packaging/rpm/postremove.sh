# $1: 0 last version erased, 1 upgrade (this runs after the new version's scriptlets). A restart continues an
# unfinished cycle; a daemon that the administrator stopped stays stopped. An erased one leaves only its edited
# configuration: rpm knows no purge, and a credential of the node's own shall not outlive kured.
if [ "$1" -eq 0 ]; then
	rm -rf /var/lib/kured /run/kured /run/kured-sentinel
fi
journalctl --update-catalog >/dev/null 2>&1 || :
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload >/dev/null 2>&1 || :
	if [ "$1" -ge 1 ]; then
		systemctl try-restart kured.service >/dev/null 2>&1 || :
	else
		# A unit that has failed is listed until somebody forgets it, also when it is gone.
		systemctl reset-failed kured.service 'kured-*.service' >/dev/null 2>&1 || :
	fi
fi
exit 0
