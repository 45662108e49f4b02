package advisory

var gateway = []Advisory{}
