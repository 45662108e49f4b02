package advisory

var sandbox = []Advisory{}
