package main

import "testing"

func TestByteSize(t *testing.T) {
	for text, want := range map[string]int64{
		"8GiB": 8 << 30, "8 GiB": 8 << 30, "8g": 8 << 30, "512MiB": 512 << 20, "1.5KiB": 1536, "2TB": 2e12, "1000": 1000, "7B": 7, "3kb": 3000,
	} {
		var b byteSize
		if err := b.Set(text); err != nil || int64(b) != want {
			t.Errorf("%q is %d, %v; want %d", text, b, err, want)
		}
	}
	for _, text := range []string{"", "GiB", "8Gi", "8iB", "-1", "0", "8PiB", "8GiBs", "x", "1e30", "NaN", "0x10", "8 8"} {
		var b byteSize
		if err := b.Set(text); err == nil {
			t.Errorf("%q is accepted as %d", text, b)
		}
	}
}
