package advisory

var registration = []Advisory{}
