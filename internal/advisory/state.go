package advisory

var state = []Advisory{}
