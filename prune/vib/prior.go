package vib

import "math"

// priorLoss is the divergence of the noisy multipliers from the log-uniform prior, ½·Σ w·log(1 + mu²/(sigma²+1e-8)) with the
// weight w of each unit (VIBNet, Dai et al., arXiv:1802.10399, eq. 8, weighed by kind as in the code of VTrans, arXiv:2406.05276). It adds the
// gradients by mu and by log D.
func (m *Masks) priorLoss(byMu, byLogD []float64) float64 {
	total := 0.0
	for i, mu := range m.mu {
		if !m.free[i] {
			continue
		}
		w, mu2 := m.weight[i], float64(float64(mu)*float64(mu))
		s2 := math.Exp(float64(m.logD[i]))
		den := s2 + tiny
		total += float64(w * 0.5 * math.Log1p(mu2/den))
		byMu[i] += float64(w*float64(mu)) / (den + mu2)
		byLogD[i] -= float64(w*0.5*mu2) * s2 / float64(den*(den+mu2))
	}
	return total
}
