package num

import "fmt"

// checkDims panics unless every dimension is at least 0.
func checkDims(op string, dims ...int) {
	for _, d := range dims {
		if d < 0 {
			panic(fmt.Sprintf("num: %s: negative size in %v", op, dims))
		}
	}
}

// checkMat panics unless a slice of n elements holds rows rows of cols elements, ld apart.
func checkMat(op, name string, n, rows, cols, ld int) {
	if rows == 0 || cols == 0 {
		return
	}
	if ld < cols {
		panic(fmt.Sprintf("num: %s: %s has leading dimension %d for rows of %d", op, name, ld, cols))
	}
	if need := (rows-1)*ld + cols; n < need {
		panic(fmt.Sprintf("num: %s: %s has %d elements, needs %d (%d rows of %d, %d apart)", op, name, n, need, rows, cols, ld))
	}
}

// checkLen panics unless n is at least need.
func checkLen(op, name string, n, need int) {
	if n < need {
		panic(fmt.Sprintf("num: %s: %s has %d elements, needs %d", op, name, n, need))
	}
}
