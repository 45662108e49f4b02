package advisory

var input = []Advisory{}
