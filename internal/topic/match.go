package topic

// Match reports whether the filter matches the topic name. Both must be valid;
// a $share prefix is not taken off. It does not allocate.
func Match[F, N Text](filter F, name N) bool {
	if len(filter) == 0 || len(name) == 0 {
		return false
	}
	if name[0] == '$' && filter[0] != '$' {
		return false // [MQTT-4.7.2-1]
	}
	i, j := 0, 0 // each at the start of a level
	for {
		switch {
		case i < len(filter) && filter[i] == '#':
			return true
		case i < len(filter) && filter[i] == '+':
			i++
			for j < len(name) && name[j] != '/' {
				j++
			}
		default:
			for i < len(filter) && j < len(name) && filter[i] == name[j] && filter[i] != '/' {
				i++
				j++
			}
		}
		filterEnds, nameEnds := i == len(filter), j == len(name)
		switch {
		case nameEnds && filterEnds:
			return true
		case nameEnds: // "a/#" matches its parent "a"
			return i+2 == len(filter) && filter[i] == '/' && filter[i+1] == '#'
		case filterEnds, filter[i] != '/', name[j] != '/':
			return false
		}
		i++
		j++
	}
}

// cut splits the first level off. more is false when it was the last one.
func cut[T Text](s T) (level, rest T, more bool) {
	for i := 0; i < len(s); i++ {
		if s[i] == '/' {
			return s[:i], s[i+1:], true
		}
	}
	return s, s[len(s):], false
}

// hidden reports whether a first level is out of reach for wildcards.
func hidden(level string) bool { return len(level) > 0 && level[0] == '$' }

// Covers reports whether outer matches every topic that inner matches.
func Covers(outer, inner string) bool {
	o, i, oMore, iMore := outer, inner, true, true
	first := "" // inner's first level
	for depth := 0; ; depth++ {
		var oLevel, iLevel string
		oEnds, iEnds := !oMore, !iMore
		if !oEnds {
			oLevel, o, oMore = cut(o)
		}
		if !iEnds {
			iLevel, i, iMore = cut(i)
		}
		if depth == 0 {
			first = iLevel
		}
		switch {
		case !oEnds && oLevel == "#":
			return depth > 0 || !hidden(iLevel)
		case oEnds || iEnds:
			return oEnds && iEnds
		case iLevel == "#":
			// Everything from depth levels on, and outer asks for one more. That
			// is enough only where depth levels are no topic: none, or one empty.
			none := depth == 0 || depth == 1 && first == ""
			return none && oLevel == "+" && o == "#"
		case oLevel == "+":
			if depth == 0 && hidden(iLevel) {
				return false
			}
		case oLevel != iLevel:
			return false
		}
	}
}

// mentions reports whether a filter has the literal level.
func mentions(filter, level string) bool {
	for more := true; more; {
		var l string
		if l, filter, more = cut(filter); l == level {
			return true
		}
	}
	return false
}
