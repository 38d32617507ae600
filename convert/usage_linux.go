package convert

import "os"

// readUsage reads the kernel's own account, /proc/self/status. (getrusage's
// maximum would include what the parent process had before exec.)
func readUsage() usage {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return usage{}
	}
	return usage{peak: statusBytes(status, "VmHWM:"), anonymous: statusBytes(status, "RssAnon:")}
}
