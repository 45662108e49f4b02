package advisory

var inference = []Advisory{}
