package kernel

func mulScaledGeneric[T Float](dst, a, b []T, alpha T) {
	for i, v := range a {
		dst[i] = v * alpha * b[i]
	}
}

func dot3Generic[T Float](a, b, c []T) T {
	var sum T
	for i, v := range a {
		sum += v * b[i] * c[i]
	}
	return sum
}

func normGradGeneric[T Float](dx, dy, x, weight []T, r, rc T) {
	for i, d := range dy {
		dx[i] = r*(d*weight[i]) - rc*x[i]
	}
}

func normGradAddGeneric[T Float](dx, dy, x, weight []T, r, rc T) {
	for i, d := range dy {
		dx[i] += r*(d*weight[i]) - rc*x[i]
	}
}

func rotateGeneric[T Float](a, b, cos, sin []T, sign T) {
	for i, c := range cos {
		x, y, s := a[i], b[i], sign*sin[i]
		a[i] = x*c - y*s
		b[i] = x*s + y*c
	}
}

func rotatePairsGeneric[T Float](v, cos, sin []T, sign T) {
	for i, c := range cos {
		x, y, s := v[2*i], v[2*i+1], sign*sin[i]
		v[2*i] = x*c - y*s
		v[2*i+1] = x*s + y*c
	}
}
